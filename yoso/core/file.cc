// SPDX-License-Identifier: Apache-2.0
#include "yoso/core/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "yoso/core/check.h"

namespace yoso {
namespace {

[[noreturn]] void fail_with_errno(const std::string& path, const char* doing) {
  fail(path, ": cannot ", doing, ": ", std::strerror(errno));
}

void write_all(int descriptor, std::span<const std::byte> bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_with_errno(path, "write");
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

}  // namespace

std::string read_text(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail_with_errno(path, "open");
  std::string text;
  char buffer[1 << 16];
  ssize_t count;
  while ((count = ::read(descriptor, buffer, sizeof buffer)) > 0)
    text.append(buffer, static_cast<size_t>(count));
  const int error = errno;
  ::close(descriptor);
  if (count < 0) fail(path, ": cannot read: ", std::strerror(error));
  return text;
}

MappedFile::MappedFile(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail_with_errno(path, "open");
  struct stat status {};
  const bool known = ::fstat(descriptor, &status) == 0;
  if (known && !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    fail(path.string(), ": is no file, expected one to read");
  }
  size_ = static_cast<size_t>(status.st_size);
  // A mapping of nothing is an error to the system.
  void* data = size_ == 0 ? nullptr : ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
  const int error = errno;
  ::close(descriptor);
  errno = error;
  if (!known || data == MAP_FAILED) fail_with_errno(path, "map into memory");
  data_ = static_cast<const uint8_t*>(data);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<uint8_t*>(data_), size_);
}

std::filesystem::path whole_path(const std::filesystem::path& path) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::absolute(path, error).lexically_normal();
  if (error) fail(path.string(), ": has no absolute path: ", error.message());
  return whole.has_filename() ? whole : whole.parent_path();
}

void make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail(folder.string(), ": cannot make the folder: ", error.message());
}

FileWriter::FileWriter(std::string path) : path_(std::move(path)), temporary_(path_ + ".tmp") {
  std::error_code ignored;
  if (std::filesystem::is_directory(path_, ignored))
    fail(path_, ": is a folder, expected a file to write");
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_with_errno(path_, "open");
}

FileWriter::~FileWriter() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void FileWriter::write(std::span<const std::byte> bytes) { write_all(descriptor_, bytes, path_); }

void FileWriter::commit() {
  if (::fsync(descriptor_) != 0) fail_with_errno(path_, "write");
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail_with_errno(path_, "rename");
  ::close(descriptor_);
  descriptor_ = -1;
  // The new name itself is durable only once the folder is.
  const std::string folder = std::filesystem::path(path_).parent_path().string();
  const int directory =
      ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory >= 0) {
    ::fsync(directory);
    ::close(directory);
  }
}

FileAppender::FileAppender(std::string path)
    : path_(std::move(path)),
      descriptor_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) fail_with_errno(path_, "open");
}

FileAppender::~FileAppender() { ::close(descriptor_); }

void FileAppender::write(std::string_view text) {
  write_all(descriptor_, std::as_bytes(std::span(text)), path_);
}

FolderLock::FolderLock(const std::string& folder)
    : descriptor_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (descriptor_ < 0) fail_with_errno(folder, "open");
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
  ::close(descriptor_);
  throw FolderTaken(
      folder + ": is in use by another process, expected a folder that no other run writes to");
}

FolderLock::~FolderLock() { ::close(descriptor_); }

}  // namespace yoso
