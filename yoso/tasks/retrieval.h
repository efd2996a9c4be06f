// retrieval: whether two documents belong together, each read byte by byte and encoded alone. Reads
// the AAN files of the Long Range Arena, or others of their form (pair_files.h). Token = byte + 1.
//
// Options: max_length (4000), longer documents are cut; max_train, max_dev, max_test (0: all),
// pairs to use.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <mutex>
#include <vector>

#include "yoso/tasks/pair_files.h"
#include "yoso/tasks/split_limits.h"
#include "yoso/tasks/task.h"

namespace yoso {

class Retrieval final : public Task {
 public:
  Retrieval(std::filesystem::path folder, const TaskOptions& options);

  int64_t vocab_size() const override { return 1 + 256; }
  int64_t num_classes() const override { return 2; }
  int64_t max_length() const override { return max_length_; }
  bool pairs() const override { return true; }

  int64_t size(Split split) const override;
  int64_t length(Split split, int64_t example) const override;  // of the longer document
  Batch batch(Split split, std::span<const int64_t> examples) const override;

  // "text1<TAB>text2"; the tokens of both, padded to one length, after each other.
  std::vector<int64_t> encode(std::string_view line) const override;
  Batch question(std::string_view line) const override;
  std::string class_name(int64_t label) const override;
  TaskOptions resolved_options() const override { return options_; }

 private:
  struct Part {
    std::unique_ptr<PairFile> file;
    std::vector<int64_t> examples;  // which of its lines
  };

  Retrieval(std::filesystem::path folder, OptionReader reader);
  const Part& part(Split split) const;
  std::array<std::span<const uint8_t>, 2> texts(const Part& part, Split split, int64_t i) const;

  std::filesystem::path folder_;
  SplitLimits limits_;
  int64_t max_length_;
  TaskOptions options_;
  mutable std::mutex mutex_;
  mutable std::array<Part, 3> parts_;  // without a file until a split is asked for
};

}  // namespace yoso
