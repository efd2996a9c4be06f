// Answers of a transformers checkpoint to lines of text, by its head:
//
//   masked LM                TEXT WITH <mask>         the filled text, then the likeliest of each mask
//   sequence classification  TEXT, or TEXT TAB TEXT   label, probabilities of all; or the one number
//   token classification     TEXT                     token=label of every token
//   question answering       QUESTION TAB TEXT        the answer, its probability
//   multiple choice          TEXT TAB CHOICE ...      the choice, probabilities of all
//
// Fields of an answer are apart by tabs. Tokens are written as the vocabulary does, without spaces.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "yoso/models/transformers_model.h"
#include "yoso/text/tokenizer.h"

namespace yoso {

enum class LongTexts : uint8_t { kRefuse, kCut };

class TransformersAnswers {
 public:
  // Reads model and tokenizer of the folder. Throws Error.
  TransformersAnswers(const std::string& folder, std::optional<Mode> mode, LongTexts long_texts,
                      at::Device device);

  // One line without its end. Throws Error when the line is not what the head needs.
  std::string answer(const std::string& line);

 private:
  std::vector<Encoding> encode(const std::vector<std::string>& fields) const;
  at::Tensor logits(const std::vector<Encoding>& batch);
  std::string fill_masks(const Encoding& text, const at::Tensor& logits) const;
  std::string label_tokens(const Encoding& text, const at::Tensor& logits) const;
  std::string find_answer(const Encoding& texts, const at::Tensor& logits) const;
  std::string label_text(const at::Tensor& logits) const;
  std::string token_text(int64_t id) const;

  std::shared_ptr<TransformersModel> model_;
  Tokenizer tokenizer_;
  LongTexts long_texts_;
};

}  // namespace yoso
