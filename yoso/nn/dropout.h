// Dropout by a counter-based generator: y = x * keep / (1 - p), keep 0 with probability p.
//
// torch draws its masks on one thread (on processors that are not Intel's). This one draws them on
// all threads, with the same result for any number of them, and draws them again in the backward
// instead of storing them. p is rounded to 1/65536.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace yoso::nn {

class DropoutImpl : public torch::nn::Module {
 public:
  explicit DropoutImpl(double p) : p_(p) {}

  // Any shape, floating, on the CPU. In training, takes a seed from torch's default CPU generator.
  at::Tensor forward(const at::Tensor& x);

 private:
  double p_;
};
TORCH_MODULE(Dropout);

}  // namespace yoso::nn
