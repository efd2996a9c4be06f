// Whole files: reading, and writing so that a file under its final name is always complete.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "yoso/core/check.h"

namespace yoso {

// All that this file declares throws Error with the path and what is wrong, or the system's reason.

std::string read_text(const std::string& path);

// A file in memory without reading it: the system brings the pages that are touched.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const uint8_t> bytes() const { return {data_, size_}; }

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// The absolute path without "." and "..", and without a slash at the end.
std::filesystem::path whole_path(const std::filesystem::path& path);

// Makes it, and those above it, where they are not there.
void make_folder(const std::filesystem::path& folder);

// Writes to `path`.tmp; commit() makes it durable and gives it its name in one step. Whatever goes
// wrong before that (a full disk, an exception, kill -9), `path` stays as it was; the temporary
// file is removed, or overwritten by the next attempt.
class FileWriter {
 public:
  explicit FileWriter(std::string path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void commit();

 private:
  std::string path_, temporary_;
  int descriptor_;
};

// A file that grows line by line; every write is in the system's hands when it returns.
class FileAppender {
 public:
  explicit FileAppender(std::string path);
  ~FileAppender();
  FileAppender(const FileAppender&) = delete;
  FileAppender& operator=(const FileAppender&) = delete;

  void write(std::string_view text);

 private:
  std::string path_;
  int descriptor_;
};

// Another process holds the folder.
class FolderTaken : public Error {
 public:
  using Error::Error;
};

// Holds a folder for this process, until destruction or death. Throws FolderTaken when another one
// does.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_;
};

}  // namespace yoso
