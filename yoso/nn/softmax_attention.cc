// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/softmax_attention.h"

namespace yoso::nn {

at::Tensor SoftmaxAttention::forward(const at::Tensor& query, const at::Tensor& key,
                                     const at::Tensor& value, const at::Tensor& mask) {
  std::optional<at::Tensor> key_mask;  // [B, 1, 1, N]: every head and query sees the same keys
  if (mask.defined()) key_mask = mask.unsqueeze(1).unsqueeze(1);
  const at::Tensor out = at::scaled_dot_product_attention(
      query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), key_mask);
  return out.transpose(1, 2);
}

}  // namespace yoso::nn
