// Attention kind `longformer` (Beltagy et al. 2020, arXiv 2004.05150): softmax attention of token i
// to the tokens j with
//
//   |i - j| <= window / 2,   or j < global_tokens,   or i < global_tokens
//
// without the paper's second set of projections for global tokens, since projections are the
// block's. O(N window D) a head; deterministic.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/nn/attention.h"

namespace yoso::nn {

class LongformerAttention : public Attention {
 public:
  explicit LongformerAttention(const AttentionConfig& config);

  at::Tensor forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const at::Tensor& mask) override;

 private:
  LongformerOptions options_;
};

}  // namespace yoso::nn
