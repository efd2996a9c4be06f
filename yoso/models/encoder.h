// Encoder: token, learned position and, if any, n-gram embeddings, then blocks.
// kPre: a layer norm follows the blocks; kPost: it follows the embeddings.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/normalization.h>

#include <memory>
#include <optional>
#include <vector>

#include "yoso/models/config.h"
#include "yoso/nn/dropout.h"
#include "yoso/nn/encoder_block.h"
#include "yoso/nn/ngram_embedding.h"

namespace yoso {

class Encoder : public torch::nn::Module {
 public:
  // Throws Error naming the field that is out of range.
  Encoder(const EncoderConfig& config, bool activation_checkpointing);

  // tokens [B, N] int64, mask [B, N] bool (true = real; fewer than `real_below`, see model.h), N at
  // most max_length. Returns [B, N, hidden]; rows of masked tokens are finite and mean nothing.
  // Throws Error.
  at::Tensor forward(const at::Tensor& tokens, const at::Tensor& mask,
                     std::optional<int64_t> real_below = {});
  // pool() of that: [B, hidden].
  at::Tensor pooled(const at::Tensor& tokens, const at::Tensor& mask, Pooling pooling,
                    std::optional<int64_t> real_below = {});

 private:
  // The stream after the blocks, with its norm taken apart or as the sum, and how it is packed.
  struct Encoded {
    nn::Residual stream;
    nn::RealTokens real;
  };
  Encoded encode(const at::Tensor& tokens, const at::Tensor& mask,
                 std::optional<int64_t> real_below);
  nn::Residual apply_block(nn::EncoderBlock& block, const nn::Residual& x, const at::Tensor& mask,
                           const nn::RealTokens& real);

  EncoderConfig config_;
  bool activation_checkpointing_;
  torch::nn::Embedding token_embedding_;
  at::Tensor position_embedding_;                        // [max_length, hidden]
  std::shared_ptr<nn::NgramEmbedding> ngram_embedding_;  // null without n-grams
  torch::nn::LayerNorm norm_;
  nn::Dropout dropout_;
  std::vector<std::shared_ptr<nn::EncoderBlock>> blocks_;  // one when shared
};

}  // namespace yoso
