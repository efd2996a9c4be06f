// The options of a task, read by name and range, the unknown ones refused.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace yoso {

// Values of a recipe's [task] table beside `name`, as text: "max_length" -> "2048". A task reads
// what it knows and refuses the rest by name.
using TaskOptions = std::map<std::string, std::string>;

class OptionReader {
 public:
  // `task` stands in messages.
  OptionReader(std::string task, TaskOptions options);

  // The value of `key`, or `fallback` when it is absent. Throws Error when it is not a number from
  // `low` to `high`.
  int64_t integer(const std::string& key, int64_t fallback, int64_t low, int64_t high);
  double number(const std::string& key, double fallback, double low, double high);
  std::string text(const std::string& key, const std::string& fallback);

  // Every option read so far with its value. Throws Error when one was given that was not read.
  TaskOptions finish() const;

 private:
  template <class Number>
  Number in_range(const std::string& key, Number fallback, Number low, Number high,
                  const char* kind);

  std::string task_;
  TaskOptions given_, read_;
};

}  // namespace yoso
