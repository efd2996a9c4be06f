// Attention kind `bigbird` (Zaheer et al. 2020, arXiv 2007.14062), with the tokens in blocks:
// softmax attention of a token in block r to all tokens of
//
//   the global blocks, the first `global_blocks`;  the window, |block - r| <= window_blocks / 2;
//   `random_blocks` others among those with a real token, drawn for each head and r
//
// and of the tokens of global blocks to all. The random blocks are a function of the seed; a block
// has the same ones in every forward, and in a longer sequence those of the longer one.
// O(N block (global + window + random) D) a head.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/nn/attention.h"

namespace yoso::nn {

class BigbirdAttention : public Attention {
 public:
  explicit BigbirdAttention(const AttentionConfig& config);

  at::Tensor forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const at::Tensor& mask) override;

 private:
  BigbirdOptions options_;
};

}  // namespace yoso::nn
