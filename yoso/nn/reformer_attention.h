// Attention kind `reformer` (Kitaev et al. 2020, arXiv 2001.04451): softmax attention of token i to
// the tokens that share a bucket with it under one of R hashes, in its chunk or the one before:
//
//   keys are unit queries: logit q_i.q_j / (|q_j| sqrt(D)), the block's keys are not read
//   bucket of hash r: argmax of [x P_r, -x P_r], P_r [D, buckets / 2] normal
//   chunk of hash r:  place / `chunk` in the tokens sorted by bucket, then by position
//
// A token sees itself only where it sees nothing else. A pair that meets under several hashes
// counts once, under the first of them. Buckets are two for every chunk of real tokens unless set. O(R N chunk D + R N^2 D /
// chunk) a head with so many buckets, which is what hashing costs; O(R N chunk D) with a fixed
// number.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/nn/attention.h"

namespace yoso::nn {

class ReformerAttention : public Attention {
 public:
  explicit ReformerAttention(const AttentionConfig& config);

  at::Tensor forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const at::Tensor& mask) override;

  // Buckets [B, H, R, N] of query [B, H, N, D] under `seed`; masked tokens have a bucket of their
  // own, behind all others.
  at::Tensor buckets_of(const at::Tensor& query, const at::Tensor& real, int64_t seed) const;

 private:
  ReformerOptions options_;
};

}  // namespace yoso::nn
