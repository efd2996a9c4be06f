// Elements of the three types on the GPU: widening, rounding, and 16 bytes of them at a time.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "yoso/core/array.h"
#include "yoso/core/check.h"
#include "yoso/core/dtype.h"

namespace yoso::cuda {

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(BFloat16 x) { return __uint_as_float(uint32_t{x.bits} << 16); }
__device__ inline float widen(Float16 x) { return __half2float(__ushort_as_half(x.bits)); }

// Rounds to nearest, ties to even.
template <class T>
__device__ T narrow(float x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
  } else if constexpr (std::is_same_v<T, Float16>) {
    return {__half_as_ushort(__float2half_rn(x))};
  } else {
    return x;
  }
}

// kSize neighbours, read and written as one (16 bytes at a time).
template <class T, int kSize>
struct alignas(sizeof(T) * kSize < 16 ? sizeof(T) * kSize : 16) Vec {
  T at[kSize];

  static __device__ Vec load(const T* from) { return *reinterpret_cast<const Vec*>(from); }
  __device__ void store(T* to) const { *reinterpret_cast<Vec*>(to) = *this; }
};

// 16 bytes to global memory by one instruction, where a compiler might split a store of a Vec.
template <class T>
__device__ inline void store_whole(T* to, uint4 words) {
  __stwb(reinterpret_cast<uint4*>(to), words);
}

// sum += v, as few instructions as the type allows: the upper of two bfloat16 is a float but for
// its lower bits.
template <class T, int kSize>
__device__ inline void add(float (&sum)[kSize], const Vec<T, kSize>& v) {
  if constexpr (std::is_same_v<T, BFloat16> && kSize % 2 == 0) {
    const uint32_t* words = reinterpret_cast<const uint32_t*>(v.at);
#pragma unroll
    for (int k = 0; k < kSize; k += 2) {
      sum[k] += __uint_as_float(words[k / 2] << 16);
      sum[k + 1] += __uint_as_float(words[k / 2] & 0xffff0000u);
    }
  } else {
#pragma unroll
    for (int k = 0; k < kSize; ++k) sum[k] += widen(v.at[k]);
  }
}

// How many elements of T are 16 bytes.
template <class T>
inline constexpr int kVec = 16 / static_cast<int>(sizeof(T));

// Whether every row of `a` begins on a boundary of 16 bytes.
inline bool is_aligned(const ConstArray& a) {
  const auto whole = [&](int64_t stride) { return stride * size_of(a.dtype) % 16 == 0; };
  return reinterpret_cast<uintptr_t>(a.data) % 16 == 0 && whole(a.row_stride) &&
         whole(a.head_stride) && whole(a.batch_stride);
}

// Element i of memory of any of the three types.
__device__ inline float load_as_float(const void* data, DType dtype, int64_t i) {
  if (dtype == DType::kFloat32) return static_cast<const float*>(data)[i];
  if (dtype == DType::kBFloat16) return widen(static_cast<const BFloat16*>(data)[i]);
  return widen(static_cast<const Float16*>(data)[i]);
}

__device__ inline void store_as(void* data, DType dtype, int64_t i, float x) {
  if (dtype == DType::kFloat32) {
    static_cast<float*>(data)[i] = x;
  } else if (dtype == DType::kBFloat16) {
    static_cast<BFloat16*>(data)[i] = narrow<BFloat16>(x);
  } else {
    static_cast<Float16*>(data)[i] = narrow<Float16>(x);
  }
}

// Calls f.template operator()<T>() with the type that `dtype` names, for results that are written
// once: a branch in the kernel instead of a kernel for each type.
template <class F>
__device__ inline void with_element(DType dtype, F&& f) {
  if (dtype == DType::kFloat32) {
    f.template operator()<float>();
  } else if (dtype == DType::kBFloat16) {
    f.template operator()<BFloat16>();
  } else {
    f.template operator()<Float16>();
  }
}

// Operators refuse types of `what` that a GPU has no kernels for here, by name.
inline void check_gpu_type(const char* op, const char* what, DType dtype) {
  if (dtype == DType::kFloat32 || dtype == DType::kBFloat16 || dtype == DType::kFloat16) return;
  fail(op, ": ", what, " is ", name_of(dtype), ", expected float32, bfloat16 or float16 on a GPU");
}

// Calls f.template operator()<T>() with float, BFloat16 or Float16.
template <class F>
decltype(auto) with_gpu_type(const char* op, const char* what, DType dtype, F&& f) {
  check_gpu_type(op, what, dtype);
  if (dtype == DType::kFloat32) return f.template operator()<float>();
  return dtype == DType::kBFloat16 ? f.template operator()<BFloat16>()
                                   : f.template operator()<Float16>();
}

}  // namespace yoso::cuda
