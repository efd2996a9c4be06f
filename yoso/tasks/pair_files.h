// Pairs of documents in tab-separated files, as the Long Range Arena has those of the ACL Anthology
// Network (AAN): a line is "label<TAB>id1<TAB>id2<TAB>text1<TAB>text2", without header or quotes;
// labels are 0 or 1, also written 0.0 and 1.0; texts are taken as they stand.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "yoso/core/file.h"

namespace yoso {

inline constexpr std::array kPairFiles = {"new_aan_pairs.train.tsv", "new_aan_pairs.eval.tsv",
                                          "new_aan_pairs.test.tsv"};

// The lines of one file, found once; the texts stay on disk.
class PairFile {
 public:
  // Throws Error "path:line: ..." for a bad line, and for a last line without an end: the file is
  // cut short.
  explicit PairFile(const std::filesystem::path& path);

  int64_t size() const { return std::ssize(rows_); }
  int64_t label(int64_t i) const { return rows_[static_cast<size_t>(i)].label; }
  // The two texts.
  std::array<std::span<const uint8_t>, 2> texts(int64_t i) const;

 private:
  struct Row {
    int64_t begin, tab, end;  // of the two texts in the file: [begin, tab) and [tab + 1, end)
    int64_t label;
  };
  Row parse(int64_t begin, int64_t end) const;

  MappedFile file_;
  std::vector<Row> rows_;
};

}  // namespace yoso
