// Attention kind `yoso`: yoso_attention with the options of the configuration, and YOSO-C's
// learned filters when conv_width > 0.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/nn/attention.h"

namespace yoso::nn {

class YosoAttention : public Attention {
 public:
  explicit YosoAttention(const AttentionConfig& config);

  // Without options.seed, each forward draws new codes from torch's default generator of the
  // device, in evaluation as in training: seed that generator for results that repeat.
  at::Tensor forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const at::Tensor& mask) override;
  // On a GPU, without filters.
  bool takes_packed(at::Device device) const override;
  at::Tensor attend_packed(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                           const RealTokens& real) override;

 private:
  YosoOptions options_;
  at::Tensor conv_weight_;  // [heads, conv_width], undefined without
};

}  // namespace yoso::nn
