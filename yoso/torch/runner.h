// How a wrapper runs its operator on the device of its tensors.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>

#include "yoso/cuda/stream.h"

namespace yoso {

// kRun is cpu::OPERATOR or cuda::OPERATOR: the template argument of a wrapper says where it runs.
template <auto kRun>
class Runner;

template <class Op, void (*kRun)(const Op&)>
class Runner<kRun> {
 public:
  static constexpr bool kOnGpu = false;
  explicit Runner(const torch::stable::Tensor& /*like*/) {}
  void operator()(const Op& a) { kRun(a); }
};

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
template <class Op, void (*kRun)(const Op&, cuda::Stream&)>
class Runner<kRun> {
 public:
  static constexpr bool kOnGpu = true;
  explicit Runner(const torch::stable::Tensor& like)
      : device_(like.get_device_index()), stream_(like.get_device_index()), scope_(stream_) {}
  void operator()(const Op& a) { kRun(a, stream_); }
  cuda::Stream& stream() { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard device_;
  TorchStream stream_;
  cuda::Stream::Scope scope_;
};

#else

// Arguments has refused tensors on a GPU, by name, before this is reached.
template <class Op, void (*kRun)(const Op&, cuda::Stream&)>
class Runner<kRun> {
 public:
  static constexpr bool kOnGpu = false;
  explicit Runner(const torch::stable::Tensor& /*like*/) {}
  void operator()(const Op&) {}
};

#endif

}  // namespace yoso
