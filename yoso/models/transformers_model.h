// YOSO models as Python's `transformers` defines them: token, position and type embeddings, a layer
// norm, post-norm blocks, and a head. In expectation mode the logits of sequences are those of
// transformers; the weights bear its names when they are read and written.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "yoso/models/model.h"
#include "yoso/models/transformers_config.h"
#include "yoso/nn/dropout.h"
#include "yoso/nn/encoder_block.h"

namespace yoso {

enum class PaddingMode : uint8_t {
  kStrict,        // a sequence gives the same with and without padding, as the model was trained
  kTransformers,  // padding is attended to like text, as transformers computes YOSO today
};

class TransformersModel : public Model {
 public:
  // Random weights. Throws Error naming the field that is out of range.
  explicit TransformersModel(const TransformersConfig& config,
                             PaddingMode padding = PaddingMode::kStrict);

  // tokens [B, N] int64, mask [B, N] bool (true = real), type_ids [B, N] int64 or undefined (all
  // 0); N at most max_length. Returns by head
  //   none: [B, N, hidden]; masked LM: [B, N, vocab_size]; sequence classification: [B, labels];
  //   token classification: [B, N, labels]; question answering: [B, N, 2], of a start and an end;
  //   multiple choice: [B, 1] for its sequences one by one, or [B, C] for tokens [B, C, N].
  // Padding is computed, whatever bound is given.
  at::Tensor forward(const at::Tensor& tokens, const at::Tensor& mask,
                     std::optional<int64_t> real_below = {}) override;
  at::Tensor forward(const at::Tensor& tokens, const at::Tensor& mask, const at::Tensor& type_ids);

  const TransformersConfig& config() const { return config_; }

  // Every weight under its name in model.safetensors, in the shape it has there, sharing memory. A
  // weight under two names is read from the last.
  std::vector<std::pair<std::string, at::Tensor>> weights() const;

 private:
  at::Tensor encode(const at::Tensor& tokens, const at::Tensor& mask, const at::Tensor& type_ids);
  at::Tensor apply_head(const at::Tensor& x);

  TransformersConfig config_;
  PaddingMode padding_;
  torch::nn::Embedding token_embedding_, position_embedding_, type_embedding_;
  torch::nn::LayerNorm norm_;
  nn::Dropout dropout_;
  std::vector<std::shared_ptr<nn::EncoderBlock>> blocks_;
  torch::nn::Linear head_dense_ = nullptr;    // null: none
  torch::nn::LayerNorm head_norm_ = nullptr;  // null: none
  at::Tensor head_weight_, head_bias_;        // undefined without a head
};

}  // namespace yoso
