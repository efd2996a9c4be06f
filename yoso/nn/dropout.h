// Dropout by a counter-based generator: y = x * keep / (1 - p), keep 0 with probability p.
// On the CPU; elsewhere it is torch's own.
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

  // Any shape, floating. In training, takes a seed from the default generator of its device.
  at::Tensor forward(const at::Tensor& x);
  // The probability with which an element is dropped now: 0 outside of training.
  double rate() const { return is_training() ? p_ : 0; }

 private:
  double p_;
};
TORCH_MODULE(Dropout);

}  // namespace yoso::nn
