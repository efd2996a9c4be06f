// A file that stands under its name only when it is whole.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <filesystem>
#include <string_view>

namespace yoso {

// Writes to `path`.partial; commit() renames it over `path`. Without commit() the destructor
// removes it. Every failure throws Error with the path and the system's reason.
class NewFile {
 public:
  explicit NewFile(std::filesystem::path path);
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void write(std::string_view bytes);
  void commit();

 private:
  std::filesystem::path path_, partial_;
  std::FILE* file_;
};

}  // namespace yoso
