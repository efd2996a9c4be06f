// Whole steps of training as CUDA graphs, one for every shape of a batch and bound of its real
// tokens: a small model's step is hundreds of launches, which take longer than the work itself.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "yoso/tasks/task.h"
#include "yoso/torch/cuda_graphs.h"

namespace yoso {

// What a step reads, on the device.
struct StepInput {
  Batch batch;
  at::Tensor labels;  // [] float: how many labels the step has
};
StepInput to_device(const Batch& batch, double labels, at::Device device);

class StepGraphs {
 public:
  // Queues a step on the GPU, from what it reads to its loss, and waits for nothing. It leaves no
  // gradients, and has been run once as it is before anything is captured.
  using Step = std::function<at::Tensor(const StepInput&)>;

  // A step that can be replayed, for batches of one shape and bound.
  class Recorded {
   public:
    // Queues the step on `batch`. The loss stands until the next replay.
    at::Tensor replay(const Batch& batch, double labels);

   private:
    friend class StepGraphs;
    StepInput input_;
    at::Tensor loss_;
    std::unique_ptr<CudaGraph> graph_;
  };

  // Throws Error where there are no graphs.
  StepGraphs(at::Device device, Step step);

  // The step for batches of this shape and bound, or null for the first one, which is to be run as
  // it is. Throws what a step throws that cannot be captured, and Error where it draws on the CPU
  // what a graph would repeat for ever.
  Recorded* find(const Batch& batch);

 private:
  at::Device device_;
  Step step_;
  std::unique_ptr<CudaGraphs> graphs_;
  std::map<std::vector<int64_t>, Recorded> recorded_;  // by the sizes of tokens and the bound
};

}  // namespace yoso
