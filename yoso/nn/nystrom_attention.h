// Attention kind `nystrom`: Nystromformer (Xiong et al. 2021, arXiv 2102.03902), without its own
// projections:
//
//   out = softmax(Q K~') Z softmax(Q~ K') V + convolution of V,   Z ~ pinv(softmax(Q~ K~'))
//
// with logits over the root of D, and Q~, K~ the m landmarks: means of m runs of the real tokens,
// alike in size up to one, so that padding changes nothing and any length will do. A sequence of at
// most m real tokens has each of them as a landmark and gets exact softmax attention. Linear in N:
// O(N m D + m^3) a head; deterministic.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/nn/attention.h"

namespace yoso::nn {

// The pseudo-inverse of a [..., m, m] by `iterations` of
// Z <- Z (13 I - A Z (15 I - A Z (7 I - A Z))) / 4, from A' / (|A|_1 |A|_inf): the norms of each
// matrix, so that a sequence's result does not depend on the rest of its batch.
at::Tensor pseudo_inverse(const at::Tensor& a, int64_t iterations);

class NystromAttention : public Attention {
 public:
  explicit NystromAttention(const AttentionConfig& config);

  at::Tensor forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const at::Tensor& mask) override;

 private:
  int64_t landmarks_, iterations_;
  at::Tensor conv_weight_;  // [heads, conv_width], undefined without
};

}  // namespace yoso::nn
