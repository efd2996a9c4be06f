// Work on a GPU that is recorded once and then queued again as a whole: a launch for hundreds. What
// is recorded reads and writes the same memory each time; torch's generator of the device moves on
// with each replay, so what draws from it draws other numbers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>

namespace yoso {

class CudaGraph {
 public:
  virtual ~CudaGraph() = default;
  virtual void replay() = 0;  // queues the work on torch's current stream
};

// Graphs that share memory: what one leaves in tensors that are gone is overwritten by the next.
class CudaGraphs {
 public:
  virtual ~CudaGraphs() = default;
  // Calls `work`, which may only queue work and wait for nothing; nothing is computed yet. It must
  // have run once before, for what libraries prepare on first use. Throws what `work` throws and
  // what CUDA refuses; torch can be used as ever after that.
  virtual std::unique_ptr<CudaGraph> capture(const std::function<void()>& work) = 0;
};

// After load_cuda() (yoso/torch/load_cuda.h). Throws Error where libyoso_cuda_graphs.so is absent.
std::unique_ptr<CudaGraphs> make_cuda_graphs(c10::DeviceIndex device);

}  // namespace yoso
