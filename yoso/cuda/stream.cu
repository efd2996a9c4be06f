// SPDX-License-Identifier: Apache-2.0
#include "yoso/cuda/launch.h"
#include "yoso/cuda/stream.h"

namespace yoso::cuda {
namespace {

__global__ void probe() {}

}  // namespace

PoolStream::~PoolStream() {
  for (void* block : blocks_) cudaFreeAsync(block, handle());
}

void* PoolStream::allocate_bytes(int64_t bytes) {
  void* block = nullptr;
  if (bytes == 0) return block;
  const cudaError_t error = cudaMallocAsync(&block, static_cast<size_t>(bytes), handle());
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // an allocation that failed leaves nothing else broken
    fail("GPU memory: ", bytes, " bytes do not fit, expected them to; a smaller batch needs less");
  }
  throw_if_failed("cudaMallocAsync", error);
  blocks_.push_back(block);
  return block;
}

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
