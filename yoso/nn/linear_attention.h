// Attention kind `linear`: linear transformer (Katharopoulos et al. 2020, arXiv 2006.16236).
//
//   out_i = sum_j f(q_i).f(k_j) v_j / sum_j f(q_i).f(k_j),   f(x) = elu(x) + 1
//
// O(N D^2) a head; deterministic.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/nn/attention.h"

namespace yoso::nn {

class LinearAttention : public Attention {
 public:
  explicit LinearAttention(const AttentionConfig&) {}

  at::Tensor forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const at::Tensor& mask) override;
};

}  // namespace yoso::nn
