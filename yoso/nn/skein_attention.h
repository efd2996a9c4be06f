// Attention kind `skein`: Skeinformer (Chen et al. 2022, arXiv 2112.05359). Softmax attention from
// d sampled rows and d sampled columns of a sequence and head, n its real tokens:
//
//   pilot J    d rows with replacement, exact: B = softmax(Q_J K' / sqrt(D))
//   columns J' d without replacement, with probability ~ (sum_k B_ki^2)^(1/2) |v_i|
//   A = exp(Q (K_J')' / sqrt(D)),  g_i = exp(mean_k of row i's logits)
//   out_i = (sum_k A_ik v_k + g_i sum of the other v) / (sum_k A_ik + (n - d) g_i);  out_J = B V
//
// g stands for the weights that were not sampled: that of one key more, the mean of the sampled ones,
// whose value is the mean of the others and which counts n - d times. So rows are softmax attention
// to d + 1 keys, and what torch has for that computes them. A sequence of at most d real tokens gets
// exact softmax attention. O(N d D) a head. The gradient is that of the formula, given what was sampled.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/nn/attention.h"

namespace yoso::nn {

class SkeinAttention : public Attention {
 public:
  explicit SkeinAttention(const AttentionConfig& config);

  at::Tensor forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const at::Tensor& mask) override;

 private:
  SkeinOptions options_;
};

}  // namespace yoso::nn
