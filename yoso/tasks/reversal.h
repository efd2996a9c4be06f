// reversal: y[i] = x[N - 1 - i], a toy that no model learns without attention. A label a token.
// Example i of a split is a function of the seed and i; train has 2^20 of them, more than a toy
// sees.
//
// Options: length (32) of every example; symbols (16), chance is 1/symbols; seed (0); dev_size and
// test_size (1024).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "yoso/tasks/task.h"

namespace yoso {

class Reversal final : public Task {
 public:
  explicit Reversal(const TaskOptions& options);

  int64_t vocab_size() const override { return 1 + symbols_; }
  int64_t num_classes() const override { return symbols_; }
  int64_t max_length() const override { return length_; }
  bool labels_per_token() const override { return true; }

  int64_t size(Split split) const override { return sizes_[static_cast<size_t>(split)]; }
  Batch batch(Split split, std::span<const int64_t> examples) const override;

  // Numbers from 0 to symbols - 1 with spaces between them.
  std::vector<int64_t> encode(std::string_view line) const override;
  std::string class_name(int64_t label) const override { return std::to_string(label); }
  TaskOptions resolved_options() const override { return options_; }

 private:
  int64_t length_, symbols_, seed_;
  std::array<int64_t, 3> sizes_;
  TaskOptions options_;
};

}  // namespace yoso
