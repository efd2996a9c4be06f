// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/yoso_attention.h"

#include <cmath>

#include "yoso/core/check.h"
#include "yoso/torch/attention.h"

namespace yoso::nn {

YosoAttention::YosoAttention(const AttentionConfig& config) : options_(config.yoso) {
  if (config.conv_width == 0) return;
  if (config.conv_width < 0 || config.conv_width % 2 == 0) {
    fail("attention.conv_width is ", config.conv_width, ", expected 0 or an odd number");
  }
  // The bound of torch's convolutions: one over the root of the taps.
  const double bound = 1 / std::sqrt(static_cast<double>(config.conv_width));
  conv_weight_ = register_parameter(
      "conv_weight", at::empty({config.heads, config.conv_width}).uniform_(-bound, bound));
}

at::Tensor YosoAttention::forward(const at::Tensor& query, const at::Tensor& key,
                                  const at::Tensor& value, const at::Tensor& mask) {
  return yoso_attention({.query = query,
                         .key = key,
                         .value = value,
                         .query_mask = mask,
                         .key_mask = mask,
                         .conv_weight = conv_weight_},
                        options_);
}

}  // namespace yoso::nn
