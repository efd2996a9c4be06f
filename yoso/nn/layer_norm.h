// The residual stream of an encoder on a GPU. Layer norms are taken apart: their scale and
// shift go into the weights of the layer that follows, and what is left of them is done in one pass
// with what stands before: bias and dropout of a branch and its sum with the residual
// (yoso/ops/residual_norm.h). Torch's kernels for norms and for gradients of biases are the slowest
// of a narrow model's step.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/modules/normalization.h>

namespace yoso::nn {

struct Residual {
  at::Tensor sum;   // [..., width]
  at::Tensor unit;  // its layer norm without scale and shift; undefined: norms are not taken apart
};

// On a GPU, for what the operator takes: up to a width of 1,024, not in double.
bool takes_norms_apart(const at::Tensor& x);

// x and its norm, narrow under autocast; of float x with the bits that add_branch gives for that sum.
Residual with_norm(const at::Tensor& x, double epsilon);

// x + dropout(branch + bias) with probability `dropout`, and its norm. branch [..., width], bias
// [width]. Where elements are dropped, takes a seed from the default generator of the device.
Residual add_branch(const at::Tensor& x, const at::Tensor& branch, const at::Tensor& bias,
                    double dropout, double epsilon);

// norm(x) and linear(norm(x), weight, bias), from the norm without scale and shift: weight [out,
// width], bias [out], of any number of outputs. No double backward, here and above.
at::Tensor norm_apart(const torch::nn::LayerNorm& norm, const at::Tensor& unit);
at::Tensor linear_norm_apart(const torch::nn::LayerNorm& norm, const at::Tensor& unit,
                             const at::Tensor& weight, const at::Tensor& bias);

}  // namespace yoso::nn
