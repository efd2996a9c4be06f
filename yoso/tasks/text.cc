// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/text.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <utility>

#include "yoso/core/check.h"
#include "yoso/core/random.h"
#include "yoso/tasks/lines.h"
#include "yoso/tasks/split_limits.h"
#include "yoso/tasks/task_options.h"
#include "yoso/tasks/text_files.h"

namespace yoso {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> split_names(const std::string& names) {
  std::vector<std::string> result(1);
  for (const char c : names) {
    if (c == ',') {
      result.emplace_back();
    } else {
      result.back() += c;
    }
  }
  if (std::count(result.begin(), result.end(), "") > 0 ||
      std::set(result.begin(), result.end()).size() != result.size() || result.size() < 2) {
    fail("text: classes is ", in_quotes(names), ", expected 2 or more different names and commas");
  }
  return result;
}

// The classes of train as an option: the names with commas between them.
std::string names_in(const fs::path& train) {
  std::string names;
  int64_t count = 0;
  for (const std::string& name : read_classes(train)) {
    if (name.find(',') != name.npos) {
      fail(train.string(), ": class is ", in_quotes(name), ", expected a name without a comma");
    }
    names += (count++ ? "," : "") + name;
  }
  if (count < 2) fail(train.string(), ": has ", count, " classes, expected 2 or more");
  return names;
}

fs::path find(const fs::path& folder, Split split) {
  const std::string name = name_of(split);
  const fs::path path = find_documents(folder, name);
  if (path.empty()) {
    fail(folder.string(), ": has no ", name, " split, expected a folder ", name, ", ", name,
         ".tsv or ", name, ".jsonl");
  }
  return path;
}

}  // namespace

Text::Text(fs::path folder, const TaskOptions& options)
    : Text(std::move(folder), OptionReader("text", options)) {}

Text::Text(fs::path folder, OptionReader reader) : folder_(std::move(folder)), limits_(reader) {
  max_length_ = reader.integer("max_length", 4096, 1, 100'000'000);
  dev_fraction_ = reader.number("dev_fraction", 0.1, 0, 0.9);
  seed_ = reader.integer("seed", 0, 0, std::numeric_limits<int64_t>::max());
  const std::string classes = reader.text("classes", "");
  options_ = reader.finish();
  if (classes.empty()) options_["classes"] = names_in(find(folder_, Split::kTrain));
  classes_ = split_names(options_["classes"]);
}

std::vector<int64_t> Text::encode(std::string_view line) const {
  std::vector<int64_t> tokens;
  for (const char c : line.substr(0, static_cast<size_t>(max_length_))) {
    tokens.push_back(1 + static_cast<unsigned char>(c));
  }
  return tokens;
}

std::string Text::class_name(int64_t label) const {
  if (label < 0 || label >= num_classes()) {
    fail("text: label is ", label, ", expected 0 to ", num_classes() - 1);
  }
  return classes_[static_cast<size_t>(label)];
}

Examples Text::read(Split split) const {
  const bool holds_out =
      dev_fraction_ > 0 && split != Split::kTest && find_documents(folder_, "dev").empty();
  const fs::path path = find(folder_, holds_out ? Split::kTrain : split);
  Examples all = read_documents(path, classes_, max_length_);

  std::vector<int64_t> chosen = shuffled(all.size(), seed_);
  const int64_t held_out =
      holds_out ? std::llround(dev_fraction_ * static_cast<double>(all.size())) : 0;
  if (split == Split::kTrain) {
    chosen.erase(chosen.begin(), chosen.begin() + held_out);
  } else if (holds_out) {
    chosen.resize(static_cast<size_t>(held_out));
  }
  if (chosen.empty())
    fail(path.string(), ": has no examples for ", name_of(split), ", expected 1 or more");
  std::sort(chosen.begin(), chosen.end());
  limits_.apply(split, chosen);
  if (std::ssize(chosen) == all.size()) return all;
  Examples part;
  for (const int64_t i : chosen) part.add(all.symbols(i), all.label(i));
  return part;
}

}  // namespace yoso
