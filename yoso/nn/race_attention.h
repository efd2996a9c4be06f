// Attention kind `race` (2025, arXiv 2510.04008): soft hashing, YOSO's newest relative.
//
//   u = tanh(W_l x);   f_l(x)[r] = softmax_r(b c_r.u),   c_r the 2^P corners of {-1, 1}^P
//   out_i = sum_j f(q_i).f(k_j) v_j / sum_j f(q_i).f(k_j),   f = (f_1 .. f_L)
//
// W_l: P normal planes for each of L tables, the same for queries and keys and for all heads, drawn
// when the layer is made and saved with it; b is learnt, at first 1. O(N L 2^P D) a head.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/nn/attention.h"

namespace yoso::nn {

class RaceAttention : public Attention {
 public:
  explicit RaceAttention(const AttentionConfig& config);

  at::Tensor forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const at::Tensor& mask) override;

 private:
  at::Tensor features(const at::Tensor& x) const;  // [..., D] -> [..., L 2^P]

  int64_t tables_;
  at::Tensor planes_;     // [L P, D], not learnt
  at::Tensor corners_;    // [P, 2^P], of -1 and 1
  at::Tensor sharpness_;  // [1]: b
};

}  // namespace yoso::nn
