// text: the class of a document, read byte by byte. Token = byte + 1.
//
// The data is a folder with a tree of text files, TSV or JSON lines (yoso/tasks/text_files.h) for
// train and, if there are any, dev and test. Without dev, a random share of train is held out.
//
// Options: max_length (4096), longer documents are cut; dev_fraction (0.1) of train; seed (0) of
// that choice; max_train, max_dev, max_test (0: all), examples to use, a random choice; classes,
// their names separated by commas in the order of labels (default: those of train, sorted).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "yoso/tasks/split_limits.h"
#include "yoso/tasks/stored_task.h"

namespace yoso {

class Text final : public StoredTask {
 public:
  Text(std::filesystem::path folder, const TaskOptions& options);

  int64_t vocab_size() const override { return 1 + 256; }
  int64_t num_classes() const override { return static_cast<int64_t>(classes_.size()); }
  int64_t max_length() const override { return max_length_; }
  std::vector<int64_t> encode(std::string_view line) const override;
  std::string class_name(int64_t label) const override;
  TaskOptions resolved_options() const override { return options_; }

 private:
  Text(std::filesystem::path folder, OptionReader reader);
  Examples read(Split split) const override;

  std::filesystem::path folder_;
  int64_t max_length_, seed_;
  double dev_fraction_;
  SplitLimits limits_;
  std::vector<std::string> classes_;
  TaskOptions options_;
};

}  // namespace yoso
