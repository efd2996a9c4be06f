// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/layer_norm.h"

namespace yoso::nn {
namespace {

at::Tensor without_scale(const torch::nn::LayerNorm& norm, const at::Tensor& x) {
  return at::layer_norm(x, norm->options.normalized_shape(), {}, {}, norm->options.eps());
}

}  // namespace

bool takes_norms_apart(const at::Tensor& x) { return x.is_cuda() && at::GradMode::is_enabled(); }

at::Tensor norm_apart(const torch::nn::LayerNorm& norm, const at::Tensor& x) {
  return at::addcmul(norm->bias, without_scale(norm, x), norm->weight);
}

at::Tensor linear_norm_apart(const torch::nn::LayerNorm& norm, const at::Tensor& x,
                             const at::Tensor& weight, const at::Tensor& bias) {
  return at::linear(without_scale(norm, x), weight * norm->weight,
                    bias + (weight * norm->bias).sum(1));
}

}  // namespace yoso::nn
