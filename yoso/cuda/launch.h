// Calls of CUDA that say what failed, launches of any size, and the limits of the hardware.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "yoso/core/check.h"

namespace yoso::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kFullWarp = 0xffffffffu;

inline void throw_if_failed(const char* what, cudaError_t error) {
  if (error != cudaSuccess) {
    fail(what, ": CUDA says '", cudaGetErrorString(error), "', expected success");
  }
}

inline int64_t device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  throw_if_failed("cudaGetDevice", cudaGetDevice(&device));
  throw_if_failed("cudaDeviceGetAttribute", cudaDeviceGetAttribute(&value, attribute, device));
  return value;
}

// Whether the current device copies whole blocks by itself (bulk_copy.h): sm_90 and later.
inline bool has_bulk_copy() { return device_attribute(cudaDevAttrComputeCapabilityMajor) >= 9; }

// Shared memory that one block may have on the current device.
inline int64_t max_shared_bytes() {
  return device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Runs kernel(args...) on `blocks` blocks of `threads`; no block, no launch. Kernels read
// blockIdx.x alone: it goes to 2^31 - 1, the other two to 65,535.
template <class... Params, class... Args>
void launch(const char* what, CUstream_st* stream, int64_t blocks, int threads,
            int64_t shared_bytes, void (*kernel)(Params...), const Args&... args) {
  if (blocks == 0) return;
  if (blocks > INT32_MAX) fail(what, ": needs ", blocks, " blocks, expected at most ", INT32_MAX);
  constexpr int64_t kSharedWithoutAsking = 48 * 1024;
  if (shared_bytes > kSharedWithoutAsking) {
    throw_if_failed(what, cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                                               static_cast<int>(shared_bytes)));
  }
  const auto queue = [&](Params... params) {
    void* pointers[] = {&params...};
    throw_if_failed(what, cudaLaunchKernel(reinterpret_cast<const void*>(kernel),
                                           dim3(static_cast<unsigned>(blocks)),
                                           dim3(static_cast<unsigned>(threads)), pointers,
                                           static_cast<size_t>(shared_bytes), stream));
  };
  queue(args...);
}

}  // namespace yoso::cuda
