// Attention kind `softmax`: softmax(q k^T / sqrt(D)) v by torch's scaled_dot_product_attention.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/nn/attention.h"

namespace yoso::nn {

class SoftmaxAttention : public Attention {
 public:
  explicit SoftmaxAttention(const AttentionConfig&) {}

  // A sequence without a real token gives zeros.
  at::Tensor forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const at::Tensor& mask) override;
};

}  // namespace yoso::nn
