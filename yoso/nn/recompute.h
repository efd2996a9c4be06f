// Activation checkpointing: a step of a model that keeps only its input, and runs again in the
// backward with torch's default generators as they were, so that dropout and codes repeat. Results
// and gradients are those of the plain call to the bit.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

namespace yoso::nn {

// Returns step(x). `parameters` are the tensors that step uses and whose gradients are wanted;
// what else it uses gets none. Double backward is refused.
at::Tensor recompute_in_backward(std::function<at::Tensor(const at::Tensor&)> step,
                                 const at::Tensor& x, const std::vector<at::Tensor>& parameters);

}  // namespace yoso::nn
