// What config.json of a YOSO model of Python's `transformers` says, in our words. Free of torch.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "yoso/nn/config.h"

namespace yoso {

// What stands on the encoder: a class of transformers.
enum class HeadKind : uint8_t {
  kNone,                    // YosoModel
  kMaskedLm,                // YosoForMaskedLM
  kSequenceClassification,  // YosoForSequenceClassification
  kTokenClassification,     // YosoForTokenClassification
  kMultipleChoice,          // YosoForMultipleChoice
  kQuestionAnswering,       // YosoForQuestionAnswering
};
const char* architecture_of(HeadKind head);  // the name of the class

// Defaults are those of transformers.
struct TransformersConfig {
  HeadKind head = HeadKind::kNone;
  int64_t vocab_size = 50265;
  int64_t hidden = 768;         // hidden_size
  int64_t layers = 12;          // num_hidden_layers
  int64_t feed_forward = 3072;  // intermediate_size
  int64_t max_length = 4096;    // max_position_embeddings
  int64_t text_types = 1;       // type_vocab_size
  double dropout = 0.1;         // hidden_dropout_prob
  double norm_epsilon = 1e-12;  // layer_norm_eps
  bool tied = true;             // tie_word_embeddings: masked LM reads out by the token embeddings
  // num_attention_heads, conv_window, hash_code_len, num_hash; use_expectation and use_fast_hash as
  // mode and projection.
  nn::AttentionConfig attention = {
      .heads = 12, .yoso = {.mode = Mode::kExpected, .num_hashes = 64, .code_bits = 9}};
  std::vector<std::string> labels = {"LABEL_0", "LABEL_1"};  // id2label
  bool many_labels = false;  // problem_type is multi_label_classification: any number of them apply
  // The rest of config.json, which is written back as it was; empty: nothing else.
  std::string document;
};

// Throws Error with `name`, the field, what was got and expected.
TransformersConfig parse_transformers_config(std::string_view text, const std::string& name);
// `dtype` of the weights: "float32", "float16" or "bfloat16".
std::string to_json(const TransformersConfig& config, const std::string& dtype);

}  // namespace yoso
