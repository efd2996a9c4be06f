// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/new_file.h"

#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "yoso/core/check.h"

namespace yoso {
namespace {

[[noreturn]] void fail_writing(const std::filesystem::path& path) {
  const int error = errno;
  fail(path.string(), ": cannot be written: ", std::generic_category().message(error));
}

}  // namespace

NewFile::NewFile(std::filesystem::path path)
    : path_(std::move(path)), partial_(path_.string() + ".partial") {
  file_ = std::fopen(partial_.c_str(), "wb");
  if (file_ == nullptr) fail_writing(partial_);
}

NewFile::~NewFile() {
  if (file_ == nullptr) return;
  std::fclose(file_);
  std::error_code ignored;
  std::filesystem::remove(partial_, ignored);
}

void NewFile::write(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) fail_writing(path_);
}

void NewFile::commit() {
  // Some file systems report a full disk only here; after fsync a crash cannot empty the file.
  if (std::fflush(file_) != 0 || fsync(fileno(file_)) != 0) fail_writing(path_);
  if (std::rename(partial_.c_str(), path_.c_str()) != 0) fail_writing(path_);
  std::fclose(std::exchange(file_, nullptr));
}

}  // namespace yoso
