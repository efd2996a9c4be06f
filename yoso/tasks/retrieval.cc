// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/retrieval.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <numeric>

#include "yoso/core/check.h"
#include "yoso/tasks/task_options.h"

namespace yoso {
namespace {

using Texts = std::array<std::span<const uint8_t>, 2>;

int64_t longer(const Texts& texts) { return std::max(std::ssize(texts[0]), std::ssize(texts[1])); }

// Both texts, each padded to `cols` tokens; returns the end.
int64_t* write_tokens(const Texts& texts, int64_t cols, int64_t* tokens) {
  for (const auto text : texts) {
    const int64_t* begin = tokens;
    for (const uint8_t byte : text) *tokens++ = byte + 1;
    tokens = std::fill_n(tokens, cols - (tokens - begin), 0);
  }
  return tokens;
}

}  // namespace

Retrieval::Retrieval(std::filesystem::path folder, const TaskOptions& options)
    : Retrieval(std::move(folder), OptionReader("retrieval", options)) {}

Retrieval::Retrieval(std::filesystem::path folder, OptionReader reader)
    : folder_(std::move(folder)),
      limits_(reader),
      max_length_(reader.integer("max_length", 4000, 1, 1'000'000)),
      options_(reader.finish()) {}

int64_t Retrieval::size(Split split) const { return std::ssize(part(split).examples); }

int64_t Retrieval::length(Split split, int64_t example) const {
  return longer(texts(part(split), split, example));
}

Batch Retrieval::batch(Split split, std::span<const int64_t> examples) const {
  const Part& all = part(split);
  int64_t cols = 1;  // a batch of empty documents still has a column
  for (const int64_t i : examples) cols = std::max(cols, longer(texts(all, split, i)));

  const auto rows = static_cast<int64_t>(examples.size());
  Batch batch{at::empty({rows, 2, cols}, at::kLong), at::empty({rows, 2, cols}, at::kBool),
              at::empty({rows}, at::kLong)};
  auto* tokens = batch.tokens.mutable_data_ptr<int64_t>();
  auto* mask = batch.mask.mutable_data_ptr<bool>();
  auto* labels = batch.labels.mutable_data_ptr<int64_t>();
  for (const int64_t i : examples) {
    const int64_t* begin = tokens;
    tokens = write_tokens(texts(all, split, i), cols, tokens);
    mask = std::transform(begin, static_cast<const int64_t*>(tokens), mask,
                          [](int64_t token) { return token != 0; });
    *labels++ = all.file->label(all.examples[static_cast<size_t>(i)]);
  }
  return batch;
}

std::vector<int64_t> Retrieval::encode(std::string_view line) const {
  const size_t tab = line.find('\t');
  if (tab == line.npos || line.find('\t', tab + 1) != line.npos)
    fail("retrieval: line is not two texts, expected them with one tab between them");
  Texts texts;
  for (const size_t i : {0, 1}) {
    const std::string_view text = i == 0 ? line.substr(0, tab) : line.substr(tab + 1);
    texts[i] = {reinterpret_cast<const uint8_t*>(text.data()),
                std::min(text.size(), static_cast<size_t>(max_length_))};
  }
  std::vector<int64_t> tokens(static_cast<size_t>(2 * longer(texts)));
  write_tokens(texts, longer(texts), tokens.data());
  return tokens;
}

Batch Retrieval::question(std::string_view line) const {
  Batch batch = Task::question(line);
  for (at::Tensor* x : {&batch.tokens, &batch.mask}) *x = x->view({1, 2, x->numel() / 2});
  return batch;
}

std::string Retrieval::class_name(int64_t label) const {
  if (label != 0 && label != 1) fail("retrieval: label is ", label, ", expected 0 or 1");
  return label == 1 ? "linked" : "apart";
}

const Retrieval::Part& Retrieval::part(Split split) const {
  std::lock_guard lock(mutex_);
  Part& part = parts_[static_cast<size_t>(split)];
  if (!part.file) {
    part.file = std::make_unique<PairFile>(folder_ / kPairFiles[static_cast<size_t>(split)]);
    part.examples.resize(static_cast<size_t>(part.file->size()));
    std::iota(part.examples.begin(), part.examples.end(), 0);
    limits_.apply(split, part.examples);
  }
  return part;
}

Texts Retrieval::texts(const Part& part, Split split, int64_t i) const {
  check_example(i, std::ssize(part.examples), split);
  Texts texts = part.file->texts(part.examples[static_cast<size_t>(i)]);
  for (auto& text : texts)
    text = text.first(std::min(text.size(), static_cast<size_t>(max_length_)));
  return texts;
}

}  // namespace yoso
