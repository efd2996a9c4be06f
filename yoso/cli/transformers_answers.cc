// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/transformers_answers.h"

#include <algorithm>
#include <cstdio>

#include "yoso/core/check.h"
#include "yoso/nn/generator.h"
#include "yoso/text/byte_letters.h"
#include "yoso/text/tokenizer_files.h"
#include "yoso/train/transformers_checkpoint.h"

namespace yoso {
namespace {

constexpr int64_t kSeed = 1;            // of sampled attention: the same command, the same answer
constexpr int64_t kShown = 5;           // tokens for a mask
constexpr int64_t kLongestAnswer = 30;  // tokens

std::vector<std::string> split_at_tabs(const std::string& line) {
  std::vector<std::string> fields(1);
  for (const char c : line) {
    if (c == '\t') {
      fields.emplace_back();
    } else {
      fields.back() += c;
    }
  }
  return fields;
}

std::string with_probability(const std::string& text, double probability) {
  char number[32];
  std::snprintf(number, sizeof number, "=%.4f", probability);
  return text + number;
}

// A text that the model made, as one field of one line.
std::string on_one_line(const std::string& bytes) {
  std::string text = replace_invalid(bytes);
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return text;
}

std::shared_ptr<TransformersModel> read_model(const std::string& folder, std::optional<Mode> mode,
                                              at::Device device) {
  TransformersConfig config = read_transformers_config(folder);
  if (config.head == HeadKind::kNone)
    fail(folder, ": is a YosoModel, expected a model with a head");
  if (mode) config.attention.yoso.mode = *mode;
  const auto model = read_transformers_model(folder, config);
  model->to(device);
  model->eval();
  return model;
}

struct FieldCount {
  size_t least, most;
  const char* expected;
};

FieldCount field_count(HeadKind head) {
  switch (head) {
    case HeadKind::kSequenceClassification:
      return {1, 2, "a text, or two with a tab between"};
    case HeadKind::kQuestionAnswering:
      return {2, 2, "a question, a tab and a text"};
    case HeadKind::kMultipleChoice:
      return {2, 1000, "a text and its choices with tabs between"};
    default:
      return {1, 1, "one text without tabs"};
  }
}

}  // namespace

TransformersAnswers::TransformersAnswers(const std::string& folder, std::optional<Mode> mode,
                                         LongTexts long_texts, at::Device device)
    : model_(read_model(folder, mode, device)),
      tokenizer_(read_tokenizer(folder)),
      long_texts_(long_texts) {
  tokenizer_.set_truncation({});
  if (long_texts == LongTexts::kCut) {
    const bool question = model_->config().head == HeadKind::kQuestionAnswering;
    tokenizer_.set_truncation(Truncation{.max_length = model_->config().max_length,
                                         .strategy = question
                                                         ? Truncation::Strategy::kOnlySecond
                                                         : Truncation::Strategy::kLongestFirst});
  }
}

std::vector<Encoding> TransformersAnswers::encode(const std::vector<std::string>& fields) const {
  const TransformersConfig& config = model_->config();
  std::vector<Encoding> encodings;
  if (config.head == HeadKind::kMultipleChoice) {
    for (size_t i = 1; i < fields.size(); ++i)
      encodings.push_back(tokenizer_.encode(fields[0], fields[i]));
  } else {
    encodings.push_back(fields.size() == 1 ? tokenizer_.encode(fields[0])
                                           : tokenizer_.encode(fields[0], fields[1]));
  }
  for (const Encoding& encoding : encodings) {
    const auto length = static_cast<int64_t>(encoding.ids.size());
    if (length < 1 || length > config.max_length)
      fail("has ", length, " tokens, expected 1 to ", config.max_length,
           length > config.max_length ? "; --truncate cuts it off" : "");
    if (const int64_t id = std::ranges::max(encoding.ids); id >= config.vocab_size)
      fail("the tokenizer gives id ", id,
           ", expected below the model's vocab_size = ", config.vocab_size);
    if (const int64_t type = std::ranges::max(encoding.type_ids); type >= config.text_types)
      fail("the tokenizer gives type ", type,
           ", expected below the model's type_vocab_size = ", config.text_types);
  }
  return encodings;
}

// Of padded sequences; on the CPU.
at::Tensor TransformersAnswers::logits(const std::vector<Encoding>& batch) {
  const auto sequences = static_cast<int64_t>(batch.size());
  size_t longest = 0;
  for (const Encoding& encoding : batch) longest = std::max(longest, encoding.ids.size());
  const at::Tensor tokens = at::zeros({sequences, static_cast<int64_t>(longest)}, at::kLong);
  const at::Tensor types = at::zeros_like(tokens), mask = at::zeros_like(tokens, at::kBool);
  for (int64_t i = 0; i < sequences; ++i) {
    const Encoding& encoding = batch[static_cast<size_t>(i)];
    const auto length = static_cast<int64_t>(encoding.ids.size());
    tokens[i].narrow(0, 0, length).copy_(at::tensor(encoding.ids, at::kLong));
    types[i].narrow(0, 0, length).copy_(at::tensor(encoding.type_ids, at::kLong));
    mask[i].narrow(0, 0, length).fill_(true);
  }
  const at::Device device = model_->device();
  const nn::GeneratorScope seeded(kSeed, device);
  return model_->forward(tokens.to(device), mask.to(device), types.to(device))
      .to(at::kCPU, at::kFloat);
}

std::string TransformersAnswers::answer(const std::string& line) {
  const at::NoGradGuard no_grad;
  const std::vector<std::string> fields = split_at_tabs(line);
  const HeadKind head = model_->config().head;
  const FieldCount count = field_count(head);
  if (fields.size() < count.least || fields.size() > count.most)
    fail("has ", fields.size(), " fields, expected ", count.expected);
  const std::vector<Encoding> encodings = encode(fields);
  const at::Tensor all = logits(encodings);
  switch (head) {
    case HeadKind::kMaskedLm:
      return fill_masks(encodings[0], all[0]);
    case HeadKind::kTokenClassification:
      return label_tokens(encodings[0], all[0]);
    case HeadKind::kQuestionAnswering:
      return find_answer(encodings[0], all[0]);
    case HeadKind::kMultipleChoice: {
      const at::Tensor shares = all.squeeze(1).softmax(0);
      std::string text = fields[static_cast<size_t>(shares.argmax().item<int64_t>()) + 1] + "\t";
      for (size_t i = 1; i < fields.size(); ++i)
        text += join(i == 1 ? "" : " ",
                     with_probability(join(i), shares[static_cast<int64_t>(i) - 1].item<double>()));
      return text;
    }
    default:
      return label_text(all[0]);
  }
}

std::string TransformersAnswers::token_text(int64_t id) const {
  return to_letters(tokenizer_.decode(std::vector{id}, SpecialTokens::kWith));
}

std::string TransformersAnswers::fill_masks(const Encoding& text, const at::Tensor& logits) const {
  auto mask = tokenizer_.id_of("<mask>");
  if (!mask) mask = tokenizer_.id_of("[MASK]");
  if (!mask) fail("the tokenizer has no token <mask> or [MASK]");
  // The model may have more rows than the tokenizer has tokens.
  const at::Tensor probabilities = logits.softmax(-1);
  std::vector<int64_t> filled = text.ids;
  std::string fields;
  for (size_t i = 0; i < filled.size(); ++i) {
    if (text.ids[i] != *mask) continue;
    const auto [values, ids] =
        probabilities[static_cast<int64_t>(i)].topk(std::min(kShown, probabilities.size(1)));
    fields += '\t';
    for (int64_t k = 0; k < ids.size(0); ++k) {
      const int64_t id = ids[k].item<int64_t>();
      fields += join(k == 0 ? "" : " ",
                     with_probability(tokenizer_.knows(id) ? token_text(id) : join('#', id),
                                      values[k].item<double>()));
    }
    const int64_t best = ids[0].item<int64_t>();
    if (tokenizer_.knows(best)) filled[i] = best;
  }
  if (fields.empty()) fail("has no ", token_text(*mask), ", expected at least one");
  return on_one_line(tokenizer_.decode(filled)) + fields;
}

std::string TransformersAnswers::label_tokens(const Encoding& text,
                                              const at::Tensor& logits) const {
  const at::Tensor best = logits.argmax(-1);
  std::string answer;
  for (size_t i = 0; i < text.ids.size(); ++i) {
    if (text.texts[i] == kNoText) continue;
    const auto label = static_cast<size_t>(best[static_cast<int64_t>(i)].item<int64_t>());
    answer += join(answer.empty() ? "" : " ", token_text(text.ids[i]), '=',
                   model_->config().labels[label]);
  }
  return answer;
}

// The span of the second text with the greatest product of the probabilities of start and end.
std::string TransformersAnswers::find_answer(const Encoding& texts,
                                             const at::Tensor& logits) const {
  const at::Tensor probabilities = logits.softmax(0).contiguous();  // [N, 2]
  const auto p = probabilities.accessor<float, 2>();
  const auto length = static_cast<int64_t>(texts.ids.size());
  float best = -1;
  int64_t begin = 0, end = 0;
  for (int64_t i = 0; i < length; ++i) {
    for (int64_t j = i; j < std::min(length, i + kLongestAnswer); ++j) {
      if (texts.texts[static_cast<size_t>(i)] != 1 || texts.texts[static_cast<size_t>(j)] != 1)
        continue;
      if (p[i][0] * p[j][1] <= best) continue;
      best = p[i][0] * p[j][1];
      begin = i;
      end = j + 1;
    }
  }
  if (best < 0) fail("has no tokens after the question, expected a text");
  const std::vector<int64_t> span(texts.ids.begin() + begin, texts.ids.begin() + end);
  return on_one_line(tokenizer_.decode(span)) + "\t" + with_probability("", best).substr(1);
}

std::string TransformersAnswers::label_text(const at::Tensor& logits) const {
  const std::vector<std::string>& labels = model_->config().labels;
  if (labels.size() == 1) return with_probability("", logits[0].item<double>()).substr(1);
  const bool many = model_->config().many_labels;
  const at::Tensor shares = many ? logits.sigmoid() : logits.softmax(0);
  const int64_t best = shares.argmax().item<int64_t>();
  std::string chosen, all;
  for (size_t i = 0; i < labels.size(); ++i) {
    const double share = shares[static_cast<int64_t>(i)].item<double>();
    if (many ? share > 0.5 : static_cast<int64_t>(i) == best)
      chosen += join(chosen.empty() ? "" : ",", labels[i]);
    all += join(i == 0 ? "" : " ", with_probability(labels[i], share));
  }
  return chosen + "\t" + all;
}

}  // namespace yoso
