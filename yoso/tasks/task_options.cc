// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/task_options.h"

#include <charconv>
#include <ranges>
#include <utility>

#include "yoso/core/check.h"
#include "yoso/tasks/lines.h"

namespace yoso {

OptionReader::OptionReader(std::string task, TaskOptions options)
    : task_(std::move(task)), given_(std::move(options)) {}

std::string OptionReader::text(const std::string& key, const std::string& fallback) {
  const auto option = given_.find(key);
  return read_[key] = option == given_.end() ? fallback : option->second;
}

template <class Number>
Number OptionReader::in_range(const std::string& key, Number fallback, Number low, Number high,
                              const char* kind) {
  const std::string value = text(key, join(fallback));
  Number number{};
  const char* end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, number);
  // Not "number < low": NaN is out of range, too.
  if (error != std::errc{} || stop != end || !(number >= low && number <= high)) {
    fail(task_, ": ", key, " is ", in_quotes(value), ", expected ", kind, " from ", low, " to ",
         high);
  }
  return number;
}

int64_t OptionReader::integer(const std::string& key, int64_t fallback, int64_t low, int64_t high) {
  return in_range(key, fallback, low, high, "an integer");
}

double OptionReader::number(const std::string& key, double fallback, double low, double high) {
  return in_range(key, fallback, low, high, "a number");
}

TaskOptions OptionReader::finish() const {
  for (const auto& [key, value] : given_) {
    if (read_.contains(key)) continue;
    fail(task_, ": unknown option ", in_quotes(key), ", expected one of ",
         listed(std::views::keys(read_)));
  }
  return read_;
}

}  // namespace yoso
