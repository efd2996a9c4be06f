// Products of 16 x 16 and 16 x 8 tiles on the tensor cores, and their fragments.
//
// mma.sync.m16n8k16: lane l holds, with g = l / 4 and t = l % 4 (PTX ISA, "Matrix Fragments for
// mma.m16n8k16"),
//   of A [16 x 16]  a[0] (g, 2t..), a[1] (g + 8, 2t..), a[2] (g, 2t + 8..), a[3] (g + 8, 2t + 8..)
//   of B [16 x 8]   b[0] (2t.., g), b[1] (2t + 8.., g)
//   of C [16 x 8]   c[0], c[1] (g, 2t..), c[2], c[3] (g + 8, 2t..)
// where ".." is that place and the next one along k (A, B) or along the row (C).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "yoso/core/dtype.h"

namespace yoso::cuda {

// c += a b; 16-bit factors, sums in float.
template <class T>
__device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  if constexpr (std::is_same_v<T, Float16>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    static_assert(std::is_same_v<T, BFloat16>, "factors have 16 bits");
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// Two numbers rounded and packed as a fragment wants them, `low` in the lower half.
template <class T>
__device__ inline uint32_t pack(float low, float high) {
  uint32_t packed;
  if constexpr (std::is_same_v<T, Float16>) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  } else {
    static_assert(std::is_same_v<T, BFloat16>, "factors have 16 bits");
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  }
  return packed;
}

// Tiles 2 k and 2 k + 1 of x [16 x 8 kCount], rounded, as A [16 x 16].
template <class T, int kCount>
__device__ void pack_factors(const float (&x)[kCount][4], int k, uint32_t (&a)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const auto& half = x[2 * k + i / 2];
    a[i] = pack<T>(half[i % 2 * 2], half[i % 2 * 2 + 1]);
  }
}

// The two numbers of a packed pair, each times its factor and rounded again.
template <class T>
__device__ inline uint32_t scaled(uint32_t pair, float low, float high) {
  if constexpr (std::is_same_v<T, Float16>) {
    const float2 x = __half22float2(*reinterpret_cast<const __half2*>(&pair));
    return pack<T>(x.x * low, x.y * high);
  } else {
    return pack<T>(__uint_as_float(pair << 16) * low, __uint_as_float(pair & 0xffff0000u) * high);
  }
}

// An 8 x 8 matrix turned over: lane l gives and gets two neighbours, 2t.., of row g.
__device__ inline uint32_t transposed(uint32_t pair) {
  uint32_t turned;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(turned) : "r"(pair));
  return turned;
}

}  // namespace yoso::cuda
