// Attention kind `none`: every token keeps its own value. The control that mixes no tokens.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/nn/attention.h"

namespace yoso::nn {

class NoneAttention : public Attention {
 public:
  explicit NoneAttention(const AttentionConfig&) {}

  at::Tensor forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const at::Tensor& mask) override;
  bool takes_packed(at::Device) const override { return true; }
  at::Tensor attend_packed(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                           const RealTokens& real) override;
};

}  // namespace yoso::nn
