// NgramEmbedding: what stands before a token, as a sum of learned rows.
//
//   out[b,i] = sum over lengths n of weight[bucket(tokens[b,i-n+1..i])]
//
// Bytes mean little alone; n-grams of bytes show words and endings to the first layer (as in BLT,
// arXiv 2412.09871, section 3.2.1). Each length has buckets of its own. The bucket is a fixed hash
// of the tokens, so different n-grams may share a row. Cost: a row read a token and length; the
// gradient and the optimizer's work are as large as the table.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <vector>

namespace yoso::nn {

// Rows of the table: for each length one bucket range, in the order given. tokens [B, N] int64,
// each 0 .. 2^31 - 2; those before the start count as 0. Returns [B, N, lengths] int64, each below
// lengths * buckets.
at::Tensor ngram_rows(const at::Tensor& tokens, const std::vector<int64_t>& lengths,
                      int64_t buckets);

class NgramEmbedding : public torch::nn::Module {
 public:
  // lengths: different, each 2 to 64. Throws Error.
  NgramEmbedding(std::vector<int64_t> lengths, int64_t buckets, int64_t width);

  // tokens [B, N] int64. Returns [B, N, width].
  at::Tensor forward(const at::Tensor& tokens);

 private:
  std::vector<int64_t> lengths_;
  int64_t buckets_;
  at::Tensor weight_;  // [lengths * buckets, width]
};

}  // namespace yoso::nn
