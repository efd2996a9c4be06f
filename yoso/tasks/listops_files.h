// The tab-separated ListOps files of the Long Range Arena: a header "Source<TAB>Target", then one
// expression and its value a line, lines ending in CR LF.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <istream>
#include <string>

#include "yoso/tasks/examples.h"
#include "yoso/tasks/listops_generator.h"

namespace yoso::listops {

inline constexpr const char* kTrainFile = "basic_train.tsv";
inline constexpr const char* kDevFile = "basic_val.tsv";
inline constexpr const char* kTestFile = "basic_test.tsv";

struct FileSettings {
  static constexpr const char* kName = "listops";

  TreeSettings trees;
  int64_t train = 96000, dev = 2000, test = 2000;  // examples

  int64_t total() const { return train + dev + test; }
  void check() const;  // throws Error
};

// The settings named "small" (short expressions, for a run of minutes on a CPU) or "full" (those of
// the Long Range Arena). Throws Error on another name.
FileSettings preset(const std::string& name);

// Writes the three files into `folder`, which is made when it is not there. No expression occurs
// twice, in one file or in two. Calls progress(examples written so far) on this thread. Files
// appear under their names when all three are whole; a failure throws Error and leaves none.
void write_files(const std::filesystem::path& folder, const FileSettings& settings,
                 const std::function<void(int64_t written)>& progress);

// Symbols of expressions, cut after max_length, and their values as labels. Throws Error
// "path:line: ..." for a bad line.
Examples read_file(std::istream& in, const std::string& path, int64_t max_length);

}  // namespace yoso::listops
