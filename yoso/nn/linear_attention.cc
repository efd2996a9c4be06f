// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/linear_attention.h"

#include "yoso/nn/heads.h"

namespace yoso::nn {

at::Tensor LinearAttention::forward(const at::Tensor& query, const at::Tensor& key,
                                    const at::Tensor& value, const at::Tensor& mask) {
  const Heads in(query, key, value, mask);
  const auto features = [](const at::Tensor& x) { return at::elu(wide(x)) + 1; };
  return feature_attention(in, features(in.query), features(in.key)).transpose(1, 2);
}

}  // namespace yoso::nn
