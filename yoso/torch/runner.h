// Runs an operator on the device of its tensors.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>

#include "yoso/cuda/stream.h"

namespace yoso {

#ifdef YOSO_CUDA

// The stream that torch uses now on a device; scratch memory from torch's caching allocator.
class TorchStream : public cuda::Stream {
 public:
  explicit TorchStream(int32_t device);

 private:
  void* take(int64_t bytes) override;
  void give_back(void* block) override;
};

// Makes the device of `like` the current one as long as it lives.
class GpuRun {
 public:
  explicit GpuRun(const torch::stable::Tensor& like)
      : device_(like.get_device_index()), stream_(like.get_device_index()), scope_(stream_) {}
  cuda::Stream& stream() { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard device_;
  TorchStream stream_;
  cuda::Stream::Scope scope_;
};

#endif

// run<cpu::OPERATOR, cuda::OPERATOR>(a, x), on the device of x. Without CUDA code in the library
// Arguments has refused tensors on a GPU, by name, before this is reached.
template <auto kCpu, auto kCuda, class Op>
void run(const Op& a, [[maybe_unused]] const torch::stable::Tensor& like) {
#ifdef YOSO_CUDA
  if (like.is_cuda()) {
    GpuRun gpu(like);
    kCuda(a, gpu.stream());
    return;
  }
#endif
  kCpu(a);
}

}  // namespace yoso
