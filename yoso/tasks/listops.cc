// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/listops.h"

#include <algorithm>
#include <utility>

#include "yoso/core/check.h"
#include "yoso/tasks/lines.h"
#include "yoso/tasks/listops_files.h"
#include "yoso/tasks/task_options.h"

namespace yoso {

ListOps::ListOps(std::filesystem::path folder, const TaskOptions& options)
    : folder_(std::move(folder)) {
  OptionReader reader("listops", options);
  max_length_ = reader.integer("max_length", 2000, 1, 1'000'000);
  options_ = reader.finish();
}

std::vector<int64_t> ListOps::encode(std::string_view line) const {
  std::vector<uint8_t> symbols;
  try {
    symbols = listops::parse(line);
    listops::evaluate(symbols);
  } catch (const Error& error) {
    fail("listops: ", error.what());
  }
  symbols.resize(std::min(symbols.size(), static_cast<size_t>(max_length_)));
  std::vector<int64_t> tokens(symbols.begin(), symbols.end());
  for (int64_t& token : tokens) ++token;
  return tokens;
}

Examples ListOps::read(Split split) const {
  constexpr const char* kFiles[] = {listops::kTrainFile, listops::kDevFile, listops::kTestFile};
  const std::filesystem::path path = folder_ / kFiles[static_cast<size_t>(split)];
  std::ifstream in = open_file(path);
  Examples examples = listops::read_file(in, path.string(), max_length_);
  if (examples.size() == 0) fail(path.string(), ": has no examples, expected 1 or more");
  return examples;
}

}  // namespace yoso
