// The safetensors format: named arrays in one file, nothing executable.
//
//   8 bytes: length L of the header, little endian, at most 100,000,000
//   L bytes: JSON {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...,
//            "__metadata__": {"text": "text", ...}}, padded with spaces to a multiple of 8
//   the rest: the arrays, little endian and row-major, without overlap and without holes
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "yoso/core/file.h"

namespace yoso {

struct TensorView {
  std::string name;
  std::string dtype;  // "F32", "BF16", "I64", "U8", "BOOL", ...
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;  // in the file's memory, or in the caller's when writing
};

struct Safetensors {
  std::vector<TensorView> tensors;  // in the order of their bytes
  std::map<std::string, std::string> metadata;

  const TensorView* find(const std::string& name) const;  // null when absent
};

// Looks at a whole file in memory, which must outlive the result. Everything is checked before
// anything is used: throws Error with `name` and what is wrong.
Safetensors parse_safetensors(std::span<const std::byte> file, const std::string& name);

// A file in memory for as long as this lives. A file that another process cuts short meanwhile
// ends this one (write files by renaming, as write_safetensors does).
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path)
      : file_(path), content_(parse_safetensors(std::as_bytes(file_.bytes()), path)) {}

  const Safetensors& content() const { return content_; }

 private:
  MappedFile file_;
  Safetensors content_;
};

// Writes a file under its final name only when it is complete (FileWriter). Tensors are laid out
// by descending element size, then by name, so every array is aligned to its element.
void write_safetensors(const std::string& path, const Safetensors& content);

}  // namespace yoso
