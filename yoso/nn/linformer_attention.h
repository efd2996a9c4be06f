// Attention kind `linformer` (Wang et al. 2020, arXiv 2006.04768).
//
//   out = softmax(Q (E K)' / sqrt(D)) E V
//
// E [k, N] learnt for each head, shared by keys and values: the first N columns of [k, max_length].
// Masked keys and values count as 0. O(N k D) a head; deterministic.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/nn/attention.h"

namespace yoso::nn {

class LinformerAttention : public Attention {
 public:
  explicit LinformerAttention(const AttentionConfig& config);

  // Throws Error when there are more tokens than max_length.
  at::Tensor forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const at::Tensor& mask) override;

 private:
  at::Tensor projection_;  // [heads, k, max_length]
};

}  // namespace yoso::nn
