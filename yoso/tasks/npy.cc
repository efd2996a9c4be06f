// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/npy.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <string_view>

#include "yoso/core/check.h"
#include "yoso/tasks/lines.h"

namespace yoso {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";

// The text of a header, from the value of `key` on.
std::string_view value_of(std::string_view header, std::string_view key, const std::string& path) {
  const size_t place = header.find(join("'", key, "':"));
  if (place == header.npos) fail(path, ": NumPy header has no ", key, ", expected one");
  std::string_view value = header.substr(place + key.size() + 3);
  value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
  return value;
}

std::vector<int64_t> parse_shape(std::string_view text, const std::string& path) {
  const size_t close = text.find(')');
  const auto refuse = [&] {
    fail(path, ": NumPy shape is ", in_quotes(text), ", expected (sizes with commas)");
  };
  if (!text.starts_with('(') || close == text.npos) refuse();
  std::vector<int64_t> shape;
  for (const char *at = text.data() + 1, *end = text.data() + close; at < end;) {
    int64_t size = -1;
    const auto [stop, error] = std::from_chars(at, end, size);
    if (error != std::errc{} || size < 0 || (stop != end && *stop != ',')) refuse();
    shape.push_back(size);
    at = stop;
    while (at < end && (*at == ',' || *at == ' ')) ++at;
  }
  return shape;
}

}  // namespace

bool is_npy(std::span<const uint8_t> bytes) {
  return bytes.size() >= kMagic.size() &&
         std::equal(kMagic.begin(), kMagic.end(), bytes.begin(),
                    [](char a, uint8_t b) { return static_cast<uint8_t>(a) == b; });
}

Npy parse_npy(std::span<const uint8_t> bytes, const std::string& path, const std::string& type,
              int64_t item_bytes) {
  if (!is_npy(bytes)) fail(path, ": does not begin as a NumPy file");
  // Version 1 counts the header in 2 bytes, later ones in 4.
  const size_t length_bytes = bytes.size() > 6 && bytes[6] > 1 ? 4 : 2;
  const size_t begin = 8 + length_bytes;
  size_t length = 0;
  for (size_t i = 0; i < length_bytes && 8 + i < bytes.size(); ++i)
    length |= static_cast<size_t>(bytes[8 + i]) << (8 * i);
  if (bytes.size() < begin + length)
    fail(path, ": is cut short in its header, which is of ", length, " bytes");
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + begin, length);

  Npy npy;
  std::string_view descr = value_of(header, "descr", path);
  descr.remove_prefix(descr.starts_with('\'') ? 1 : 0);
  npy.type = descr.substr(0, descr.find('\''));
  if (npy.type != type) {
    fail(path, ": items are of NumPy type ", in_quotes(npy.type), ", expected '", type, "'");
  }
  if (!value_of(header, "fortran_order", path).starts_with("False"))
    fail(path, ": is in Fortran's order, expected C's");
  npy.shape = parse_shape(value_of(header, "shape", path), path);
  npy.data = bytes.subspan(begin + length);

  int64_t expected = item_bytes;
  for (const int64_t size : npy.shape) {
    if (__builtin_mul_overflow(expected, size, &expected))
      fail(path, ": shape is of more bytes than there can be");
  }
  if (std::ssize(npy.data) != expected) {
    fail(path, ": holds ", npy.data.size(), " bytes of data, expected ", expected,
         " by its header; it is cut short or damaged");
  }
  return npy;
}

std::string npy_header(const std::string& type, std::span<const int64_t> shape) {
  std::string sizes;
  for (const int64_t size : shape) sizes += join(size, ", ");
  if (shape.size() > 1) sizes.resize(sizes.size() - 2);
  if (shape.size() == 1) sizes.resize(sizes.size() - 1);  // (5,)
  std::string text =
      join("{'descr': '", type, "', 'fortran_order': False, 'shape': (", sizes, "), }");
  constexpr size_t kPrefix = 10, kAlignment = 64;
  while ((kPrefix + text.size() + 1) % kAlignment != 0) text += ' ';
  text += '\n';
  std::string header(kMagic);
  header += '\x01';
  header += '\0';
  header += static_cast<char>(text.size() & 0xff);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

}  // namespace yoso
