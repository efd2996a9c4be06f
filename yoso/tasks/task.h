// Tasks: where examples come from and what a right answer is. The training loop, the evaluation and
// the command line know tasks by this interface only. Adding one: a file pair, a line in
// registry.cc, a recipe.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "yoso/tasks/task_options.h"

namespace yoso {

enum class Split : uint8_t { kTrain, kDev, kTest };
const char* name_of(Split split);  // "train", "dev", "test"

// Throws Error unless it is one of the `size` examples of the split.
void check_example(int64_t example, int64_t size, Split split);

// Examples padded on the right to the longest of them.
struct Batch {
  at::Tensor tokens;  // [B, N] int64, 0 where padded; [B, 2, N] for pairs
  at::Tensor mask;    // of the shape of tokens, bool, true = real
  at::Tensor labels;  // [B] int64, or [B, N] int64 with -100 where padded (labels per token)
  std::optional<int64_t> real_below = {};  // more than the real tokens, where a GPU will need it
};

class Task {
 public:
  virtual ~Task() = default;

  virtual int64_t vocab_size() const = 0;  // padding (0) included
  virtual int64_t num_classes() const = 0;
  virtual int64_t max_length() const = 0;  // tokens of the longest example it can give
  virtual bool labels_per_token() const { return false; }
  virtual bool pairs() const { return false; }  // an example is two sequences

  virtual int64_t size(Split split) const = 0;  // examples
  // Tokens of an example, where tasks know it: batches of like lengths have little padding.
  virtual int64_t length(Split /*split*/, int64_t /*example*/) const { return max_length(); }
  // Safe to call from several threads at once. Every index is in [0, size(split)).
  virtual Batch batch(Split split, std::span<const int64_t> examples) const = 0;

  // For `predict`: one line of input to tokens (throws Error when it cannot be one) and the name
  // of a class.
  virtual std::vector<int64_t> encode(std::string_view line) const = 0;
  // The line as a batch of one example without a label, without tokens where encode() gives none;
  // token 0 is padding.
  virtual Batch question(std::string_view line) const;
  virtual std::string class_name(int64_t label) const = 0;

  // Options that make this task again, defaults and what was learned from its files (the names of
  // classes) included. A checkpoint keeps them: with them, encode() and class_name() need no data.
  virtual TaskOptions resolved_options() const = 0;
};

// `data` is the folder or file the recipe names; may be empty for tasks that generate.
// Throws Error with path and line for a bad file, with the key for a bad option.
std::shared_ptr<Task> make_task(const std::string& name, const std::string& data,
                                const TaskOptions& options);
std::vector<std::string> task_names();

}  // namespace yoso
