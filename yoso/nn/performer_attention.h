// Attention kind `performer`: FAVOR+ (Choromanski et al. 2021, arXiv 2009.14794).
//
//   out_i = sum_j f(q_i).f(k_j) v_j / sum_j f(q_i).f(k_j)
//   softmax: f(x) = exp(w_r.x - |x|^2 / 2) / sqrt(m),   E f(q).f(k) = exp(q.k)
//   relu:    f(x) = max(w_r.x, 0) + 1/1000              (generalised attention)
//
// of queries and keys over the fourth root of D. The m directions w_r are normal, those of a block
// of D orthogonal; they are drawn when the layer is made, and saved with it. O(N m D) a head.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/nn/attention.h"

namespace yoso::nn {

// [rows, width] float from torch's default CPU generator: normal, orthogonal within blocks of
// `width` rows.
at::Tensor orthogonal_normals(int64_t rows, int64_t width);

class PerformerAttention : public Attention {
 public:
  explicit PerformerAttention(const AttentionConfig& config);

  at::Tensor forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const at::Tensor& mask) override;

 private:
  Features features_;
  at::Tensor directions_;  // [m, D], not learnt
};

}  // namespace yoso::nn
