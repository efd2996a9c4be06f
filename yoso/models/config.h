// Configuration of a model. Free of torch, so that recipes can be read without it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "yoso/nn/config.h"

namespace yoso {

using nn::NormPosition;
enum class Pooling : uint8_t { kMean, kFirst };

struct EncoderConfig {
  int64_t vocab_size = 0;  // set by the task; ids 0 .. vocab_size - 1, 0 is padding
  int64_t max_length = 0;  // set by the task unless the recipe says; learned positions
  int64_t hidden = 64;
  int64_t layers = 2;
  int64_t feed_forward = 128;
  double dropout = 0.1;
  NormPosition norm = NormPosition::kPre;
  bool shared_layers = false;  // one block applied `layers` times
  double position_std = 0.02;  // initial deviation of the learned positions
  // Lengths of the n-grams whose hashed embeddings are added to each token (nn/ngram_embedding.h).
  std::vector<int64_t> ngrams;
  int64_t ngram_buckets = 16384;  // rows of the table of one length
  nn::AttentionConfig attention;
};

struct ModelConfig {
  // A name of model_kinds(): classifier, dual_classifier, token_classifier.
  std::string kind = "classifier";
  Pooling pooling = Pooling::kMean;
  int64_t num_classes = 0;                // set by the task
  bool activation_checkpointing = false;  // recompute blocks in the backward
  EncoderConfig encoder;
};

}  // namespace yoso
