// Products of a warpgroup (four warps) and tiles in shared memory on the tensor cores of Hopper
// (sm_90a): asynchronous, factors of 16 bits, sums in float.
//
// wgmma.m64nNk16: warp w of the four holds rows 16 w ... of A and C in the fragments of mma.h, C as
// N / 8 of them. Nothing that is multiplied may be read or written before wait_for_products();
// publish_registers() comes between the last write and the product.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "yoso/core/dtype.h"
#include "yoso/cuda/launch.h"
#include "yoso/cuda/shared_tile.h"

namespace yoso::cuda {

// Whether the current device has wgmma: compute capability 9.0 alone, and code for sm_90a.
inline bool has_wgmma() {
#ifdef YOSO_SM90A
  return device_attribute(cudaDevAttrComputeCapabilityMajor) == 9 &&
         device_attribute(cudaDevAttrComputeCapabilityMinor) == 0;
#else
  return false;
#endif
}

// Whether the code being compiled is for such a device.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
inline constexpr bool kCompilesWgmma = true;
#else
inline constexpr bool kCompilesWgmma = false;
#endif

// A SharedTile whose base is a multiple of 1,024, as the tensor cores are told of it: its
// permutation of chunks is theirs (PTX ISA, "Matrix Descriptor Format"). Groups of eight rows
// follow each other.
template <int kWidth>
__device__ uint64_t describe(SharedTile<kWidth> tile, uint32_t bytes_further) {
  static_assert(kWidth == 32 || kWidth == 64, "rows of 64 or 128 bytes");
  constexpr uint64_t kGroup = 8 * SharedTile<kWidth>::kRowBytes / 16,
                     kSwizzle = kWidth == 64 ? 1 : 2;
  return (tile.base + bytes_further) / 16 | uint64_t{1} << 16 | kGroup << 32 | kSwizzle << 62;
}

// Makes what this thread copied or stored to shared memory known to the tensor cores.
__device__ inline void publish_shared() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ inline void publish_registers() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void end_product_group() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until all but the kUnderWay newest groups of products are done, of which c may be read then.
template <int kUnderWay = 0, int kCount>
__device__ void wait_for_products(float (&c)[kCount][4]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kUnderWay) : "memory");
  // Keeps the compiler from moving a use of c before the wait.
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    asm volatile("" : "+f"(c[i][0]), "+f"(c[i][1]), "+f"(c[i][2]), "+f"(c[i][3])::"memory");
  }
}

// N and the types are part of an instruction's name. `types`: of the factors; `add`: 1 where c is
// added; `how`: the operands' constraint.
#define YOSO_C4(how, i) how(c[i][0]), how(c[i][1]), how(c[i][2]), how(c[i][3])
#define YOSO_C16(how, i) \
  YOSO_C4(how, i), YOSO_C4(how, i + 1), YOSO_C4(how, i + 2), YOSO_C4(how, i + 3)
#define YOSO_WGMMA_32(types, add, how)                                    \
  asm volatile("wgmma.mma_async.sync.aligned.m64n32k16.f32" types         \
               "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}," \
               "{%16,%17,%18,%19},%20," add ",1,1,%21;"                   \
               : YOSO_C16(how, 0)                                         \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kTransposed))
#define YOSO_WGMMA_48(types, add, how)                                                   \
  asm volatile("wgmma.mma_async.sync.aligned.m64n48k16.f32" types                        \
               "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                 \
               "%16,%17,%18,%19,%20,%21,%22,%23},{%24,%25,%26,%27},%28," add ",1,1,%29;" \
               : YOSO_C16(how, 0), YOSO_C4(how, 4), YOSO_C4(how, 5)                      \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kTransposed))
#define YOSO_WGMMA_64(types, add, how)                                             \
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32" types                  \
               "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"           \
               "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}," \
               "{%32,%33,%34,%35},%36," add ",1,1,%37;"                            \
               : YOSO_C16(how, 0), YOSO_C16(how, 4)                                \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kTransposed))
#define YOSO_WGMMA(add, how)                                                   \
  static_assert(kCount == 4 || kCount == 6 || kCount == 8, "N");               \
  constexpr bool kHalf = std::is_same_v<T, Float16>;                           \
  static_assert(kHalf || std::is_same_v<T, BFloat16>, "factors have 16 bits"); \
  if constexpr (kCount == 4 && kHalf) YOSO_WGMMA_32(".f16.f16 ", add, how);    \
  if constexpr (kCount == 4 && !kHalf) YOSO_WGMMA_32(".bf16.bf16 ", add, how); \
  if constexpr (kCount == 6 && kHalf) YOSO_WGMMA_48(".f16.f16 ", add, how);    \
  if constexpr (kCount == 6 && !kHalf) YOSO_WGMMA_48(".bf16.bf16 ", add, how); \
  if constexpr (kCount == 8 && kHalf) YOSO_WGMMA_64(".f16.f16 ", add, how);    \
  if constexpr (kCount == 8 && !kHalf) YOSO_WGMMA_64(".bf16.bf16 ", add, how);

// The same of N = 64 with the 64 rows of a [64 x 16] described too.
#define YOSO_WGMMA_SHARED(types, add, how)                                         \
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32" types                  \
               "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"           \
               "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}," \
               "%32,%33," add ",1,1,0,0;"                                          \
               : YOSO_C16(how, 0), YOSO_C16(how, 4)                                \
               : "l"(a), "l"(b))
#define YOSO_WGMMA_OF_SHARED(add, how)                                  \
  if constexpr (std::is_same_v<T, Float16>) {                           \
    YOSO_WGMMA_SHARED(".f16.f16 ", add, how);                           \
  } else {                                                              \
    static_assert(std::is_same_v<T, BFloat16>, "factors have 16 bits"); \
    YOSO_WGMMA_SHARED(".bf16.bf16 ", add, how);                         \
  }

// c = a b, where b [16 x N] is described: its N columns are rows of the tile, or, kTransposed, its
// 16 rows are.
template <class T, bool kTransposed, int kCount>
__device__ void start_product(float (&c)[kCount][4], const uint32_t (&a)[4], uint64_t b) {
  YOSO_WGMMA("0", "=f")
}
// c += a b
template <class T, bool kTransposed, int kCount>
__device__ void start_sum(float (&c)[kCount][4], const uint32_t (&a)[4], uint64_t b) {
  YOSO_WGMMA("1", "+f")
}
// c = a b, plus c where `add`.
template <class T, bool kTransposed>
__device__ void start_sum_if(bool add, float (&c)[8][4], const uint32_t (&a)[4], uint64_t b) {
  static_assert(std::is_same_v<T, BFloat16>);
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %38, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31},"
      "{%32,%33,%34,%35},%36,p,1,1,%37;}"
      : YOSO_C16("+f", 0), YOSO_C16("+f", 4)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kTransposed),
        "r"(static_cast<int>(add)));
}
// Both described, the columns of b being rows of its tile.
template <class T>
__device__ void start_product(float (&c)[8][4], uint64_t a, uint64_t b) {
  YOSO_WGMMA_OF_SHARED("0", "=f")
}
template <class T>
__device__ void start_sum(float (&c)[8][4], uint64_t a, uint64_t b) {
  YOSO_WGMMA_OF_SHARED("1", "+f")
}
#undef YOSO_WGMMA_SHARED
#undef YOSO_WGMMA_OF_SHARED
#undef YOSO_C4
#undef YOSO_C16
#undef YOSO_WGMMA_32
#undef YOSO_WGMMA_48
#undef YOSO_WGMMA_64
#undef YOSO_WGMMA

}  // namespace yoso::cuda
