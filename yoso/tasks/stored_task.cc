// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/stored_task.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "yoso/core/check.h"

namespace yoso {

int64_t StoredTask::size(Split split) const { return stored(split).size(); }

int64_t StoredTask::length(Split split, int64_t example) const {
  return static_cast<int64_t>(stored(split).symbols(example).size());
}

Batch StoredTask::batch(Split split, std::span<const int64_t> examples) const {
  const Examples& all = stored(split);
  size_t longest = 1;  // a batch of empty documents still has a column
  for (const int64_t i : examples) {
    check_example(i, all.size(), split);
    longest = std::max(longest, all.symbols(i).size());
  }

  const auto rows = static_cast<int64_t>(examples.size()), cols = static_cast<int64_t>(longest);
  // Filled here and not by at::zeros, whose threads would compete with those of the training.
  Batch batch{at::empty({rows, cols}, at::kLong), at::empty({rows, cols}, at::kBool),
              at::empty({rows}, at::kLong)};
  auto* tokens = batch.tokens.mutable_data_ptr<int64_t>();
  auto* mask = batch.mask.mutable_data_ptr<bool>();
  auto* labels = batch.labels.mutable_data_ptr<int64_t>();
  for (const int64_t i : examples) {
    const std::span<const uint8_t> symbols = all.symbols(i);
    const size_t padding = longest - symbols.size();
    tokens =
        std::transform(symbols.begin(), symbols.end(), tokens, [](uint8_t s) { return s + 1; });
    tokens = std::fill_n(tokens, padding, 0);
    mask = std::fill_n(mask, symbols.size(), true);
    mask = std::fill_n(mask, padding, false);
    *labels++ = all.label(i);
  }
  return batch;
}

const Examples& StoredTask::stored(Split split) const {
  std::lock_guard lock(mutex_);
  std::optional<Examples>& examples = splits_[static_cast<size_t>(split)];
  if (!examples) examples = read(split);
  return *examples;
}

}  // namespace yoso
