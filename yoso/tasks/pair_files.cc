// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/pair_files.h"

#include <algorithm>
#include <string_view>

#include "yoso/core/check.h"
#include "yoso/tasks/lines.h"

namespace yoso {
namespace {

int64_t parse_label(std::string_view text) {
  if (text == "0" || text == "0.0") return 0;
  if (text == "1" || text == "1.0") return 1;
  fail("label is ", in_quotes(text), ", expected 0, 1, 0.0 or 1.0");
}

}  // namespace

PairFile::PairFile(const std::filesystem::path& path) : file_(path) {
  const auto bytes = file_.bytes();
  int64_t number = 0, begin = 0;
  const auto size = std::ssize(bytes);
  while (begin < size) {
    ++number;
    const int64_t end = std::find(bytes.begin() + begin, bytes.end(), '\n') - bytes.begin();
    if (end == size) {
      fail(path.string(), ":", number, ": line has no end, expected a newline; the file is cut ",
           "short");
    }
    const bool has_return = end > begin && bytes[static_cast<size_t>(end) - 1] == '\r';
    try {
      rows_.push_back(parse(begin, end - (has_return ? 1 : 0)));
    } catch (const Error& error) {
      fail(path.string(), ":", number, ": ", error.what());
    }
    begin = end + 1;
  }
  if (rows_.empty()) fail(path.string(), ": has no pairs, expected 1 or more");
}

PairFile::Row PairFile::parse(int64_t begin, int64_t end) const {
  const auto bytes = file_.bytes();
  std::array<int64_t, 4> tabs{};
  int64_t fields = 1;
  for (int64_t at = begin; at < end; ++at) {
    at = std::find(bytes.begin() + at, bytes.begin() + end, '\t') - bytes.begin();
    if (at == end) break;
    if (fields <= 4) tabs[static_cast<size_t>(fields) - 1] = at;
    ++fields;
  }
  if (fields != 5)
    fail("line has ", fields, " fields, expected 5: label, two ids, two texts; tabs between them");
  const std::string_view label(reinterpret_cast<const char*>(bytes.data()) + begin,
                               static_cast<size_t>(tabs[0] - begin));
  return {tabs[2] + 1, tabs[3], end, parse_label(label)};
}

std::array<std::span<const uint8_t>, 2> PairFile::texts(int64_t i) const {
  const Row& row = rows_[static_cast<size_t>(i)];
  const auto part = [&](int64_t begin, int64_t end) {
    return file_.bytes().subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  };
  return {part(row.begin, row.tab), part(row.tab + 1, row.end)};
}

}  // namespace yoso
