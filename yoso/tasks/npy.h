// NumPy's array files: a line of text with type and shape, then the numbers as they lie in memory.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace yoso {

struct Npy {
  std::string type;            // as NumPy writes it: "|u1" bytes, "<U32" texts of 32 letters
  std::vector<int64_t> shape;  // the last index runs fastest
  std::span<const uint8_t> data;
};

bool is_npy(std::span<const uint8_t> bytes);  // begins as such a file does

// The array in `bytes`, whose items are of `item_bytes` bytes. Throws Error with `path` when it is
// of another type than `type` or is cut short.
Npy parse_npy(std::span<const uint8_t> bytes, const std::string& path, const std::string& type,
              int64_t item_bytes);

// What stands before the numbers.
std::string npy_header(const std::string& type, std::span<const int64_t> shape);

}  // namespace yoso
