// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/lines.h"

#include <cerrno>
#include <system_error>

#include "yoso/core/check.h"

namespace yoso {

std::ifstream open_file(const std::filesystem::path& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) fail(path.string(), ": cannot open: ", std::generic_category().message(errno));
  return in;
}

void for_each_line(std::istream& in, const std::string& path,
                   const std::function<void(std::string_view, int64_t)>& f) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  std::string buffer;
  for (int64_t number = 1; std::getline(in, buffer); ++number) {
    std::string_view line = buffer;
    if (number == 1 && line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    try {
      f(line, number);
    } catch (const Error& error) {
      fail(path, ":", number, ": ", error.what());
    }
  }
  if (in.bad()) fail(path, ": reading failed");
}

std::string in_quotes(std::string_view text) {
  constexpr size_t kMost = 40;
  constexpr char kDigits[] = "0123456789abcdef";
  std::string shown = "'";
  for (const char c : text.substr(0, kMost)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      shown += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    } else {
      shown += c;
    }
  }
  return shown + (text.size() > kMost ? "...'" : "'");
}

}  // namespace yoso
