// SPDX-License-Identifier: Apache-2.0
#include "yoso/cuda/launch.h"
#include "yoso/cuda/stream.h"

namespace yoso::cuda {
namespace {

__global__ void probe() {}

}  // namespace

void* PoolStream::take(int64_t bytes) {
  void* block = nullptr;
  const cudaError_t error = cudaMallocAsync(&block, static_cast<size_t>(bytes), handle());
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // an allocation that failed leaves nothing else broken
    fail("GPU memory: ", bytes, " bytes do not fit, expected them to; a smaller batch needs less");
  }
  throw_if_failed("cudaMallocAsync", error);
  return block;
}

void PoolStream::give_back(void* block) { cudaFreeAsync(block, handle()); }

const char* unavailable() {
  int devices = 0;
  cudaError_t error = cudaGetDeviceCount(&devices);
  if (error == cudaSuccess && devices == 0) error = cudaErrorNoDevice;
  cudaFuncAttributes attributes;
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, probe);
  cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace yoso::cuda
