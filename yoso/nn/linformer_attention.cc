// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/linformer_attention.h"

#include <cmath>

#include "yoso/core/check.h"
#include "yoso/nn/heads.h"

namespace yoso::nn {

LinformerAttention::LinformerAttention(const AttentionConfig& config) {
  const int64_t rank = config.linformer.rank;
  if (rank < 1) fail("attention.linformer.rank is ", rank, ", expected at least 1");
  if (config.max_length < 1) {
    fail("attention.max_length is ", config.max_length, ", expected at least 1");
  }
  // The deviation of the paper's theorem: products of rows keep their size.
  projection_ =
      register_parameter("projection", at::empty({config.heads, rank, config.max_length})
                                           .normal_(0, 1 / std::sqrt(static_cast<double>(rank))));
}

at::Tensor LinformerAttention::forward(const at::Tensor& query, const at::Tensor& key,
                                       const at::Tensor& value, const at::Tensor& mask) {
  if (value.numel() == 0) return value;
  const int64_t tokens = value.size(1), most = projection_.size(2);
  if (tokens > most)
    fail("linformer: tokens is ", tokens, ", expected at most max_length = ", most);
  const Heads in(query, key, value, mask);
  const at::Tensor projection = projection_.narrow(2, 0, tokens).to(query.scalar_type());
  return at::scaled_dot_product_attention(in.query, at::matmul(projection, in.key),
                                          at::matmul(projection, in.value))
      .transpose(1, 2);
}

}  // namespace yoso::nn
