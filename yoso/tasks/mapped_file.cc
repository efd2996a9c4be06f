// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "yoso/core/check.h"

namespace yoso {

MappedFile::MappedFile(const std::filesystem::path& path) {
  const auto fail_with_errno = [&](const char* doing) {
    fail(path.string(), ": cannot be ", doing, ": ", std::strerror(errno));
  };
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail_with_errno("opened");
  struct stat status {};
  const bool known = ::fstat(descriptor, &status) == 0;
  if (known && !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    fail(path.string(), ": is no file, expected one to read");
  }
  size_ = static_cast<size_t>(status.st_size);
  // A mapping of nothing is an error to the system.
  void* data = size_ == 0 ? nullptr : ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor, 0);
  ::close(descriptor);
  if (!known || data == MAP_FAILED) fail_with_errno("mapped");
  data_ = static_cast<const uint8_t*>(data);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<uint8_t*>(data_), size_);
}

}  // namespace yoso
