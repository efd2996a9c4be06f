// Layer norms with scale and shift taken apart: torch's kernel for the gradients of those two is
// the slowest of a narrow model's step on a GPU.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/modules/normalization.h>

namespace yoso::nn {

// Whether that is worth its passes: where a GPU trains.
bool takes_norms_apart(const at::Tensor& x);

// norm(x), of any shape that ends in the width of the norm.
at::Tensor norm_apart(const torch::nn::LayerNorm& norm, const at::Tensor& x);

// linear(norm(x), weight, bias), with scale and shift in the weights: weight [out, width],
// bias [out].
at::Tensor linear_norm_apart(const torch::nn::LayerNorm& norm, const at::Tensor& x,
                             const at::Tensor& weight, const at::Tensor& bias);

}  // namespace yoso::nn
