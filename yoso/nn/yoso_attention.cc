// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/yoso_attention.h"

#include "yoso/nn/heads.h"
#include "yoso/torch/attention.h"

namespace yoso::nn {

YosoAttention::YosoAttention(const AttentionConfig& config) : options_(config.yoso) {
  if (config.conv_width == 0) return;
  conv_weight_ = register_parameter(
      "conv_weight", initial_convolution("attention.conv_width", config.heads, config.conv_width));
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

bool YosoAttention::takes_packed(at::Device device) const {
  return device.is_cuda() && !conv_weight_.defined();
}

at::Tensor YosoAttention::attend_packed(const at::Tensor& query, const at::Tensor& key,
                                        const at::Tensor& value, const RealTokens& real) {
  if (!takes_packed(query.device())) return Attention::attend_packed(query, key, value, real);
  return yoso_attention({.query = query,
                         .key = key,
                         .value = value,
                         .query_offsets = real.offsets(),
                         .key_offsets = real.offsets(),
                         .longest = real.longest()},
                        options_);
}

}  // namespace yoso::nn
