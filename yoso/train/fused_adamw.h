// AdamW for parameters on a GPU: torch::optim::AdamW with the same state and numbers, in one launch
// for many tensors where torch's own makes ten for each. What changes from step to step, the rate
// and the counts of steps, are tensors: so a CUDA graph can hold a step.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/optim/adamw.h>

#include <vector>

namespace yoso {

class FusedAdamW : public torch::optim::AdamW {
 public:
  using AdamW::AdamW;
  // count() and update(). Takes no closure.
  at::Tensor step(LossClosure closure = nullptr) override;

  // The two halves of a step. Counts it for every parameter that has had a gradient once or has one
  // now, and sends counts and rates to the device.
  void count();
  // Changes the parameters that have a gradient, in work on the device alone.
  void update();

 private:
  std::vector<at::Tensor> numbers_;  // of a group: [1 + parameters] float, the rate and the counts
};

}  // namespace yoso
