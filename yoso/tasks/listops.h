// listops: the value of a long nested expression, one of ten digits. Reads the files that
// `yoso data listops` writes and those of the Long Range Arena.
//
// Options: max_length (2000), longer expressions are cut.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "yoso/tasks/listops_language.h"
#include "yoso/tasks/stored_task.h"

namespace yoso {

class ListOps final : public StoredTask {
 public:
  ListOps(std::filesystem::path folder, const TaskOptions& options);

  int64_t vocab_size() const override { return 1 + listops::kNumSymbols; }
  int64_t num_classes() const override { return 10; }
  int64_t max_length() const override { return max_length_; }
  std::vector<int64_t> encode(std::string_view line) const override;
  std::string class_name(int64_t label) const override { return std::to_string(label); }
  TaskOptions resolved_options() const override { return options_; }

 private:
  Examples read(Split split) const override;

  std::filesystem::path folder_;
  int64_t max_length_;
  TaskOptions options_;
};

}  // namespace yoso
