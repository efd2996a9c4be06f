// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/folders.h"

#include <algorithm>
#include <system_error>

#include "yoso/core/check.h"

namespace yoso {

namespace fs = std::filesystem;

std::vector<fs::path> sorted_entries(
    const fs::path& folder, const std::function<bool(const fs::directory_entry&)>& wanted) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (wanted(*entry)) paths.push_back(entry->path());
  }
  if (error) fail(folder.string(), ": cannot be read: ", error.message());
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::vector<fs::path> sorted_folders(const fs::path& folder) {
  return sorted_entries(folder, [](const fs::directory_entry& entry) {
    return entry.is_directory() && !entry.path().filename().string().starts_with('.');
  });
}

std::vector<fs::path> sorted_files(const fs::path& folder,
                                   const std::vector<std::string>& endings) {
  return sorted_entries(folder, [&](const fs::directory_entry& entry) {
    const std::string ending = entry.path().extension().string();
    return entry.is_regular_file() &&
           std::find(endings.begin(), endings.end(), ending) != endings.end();
  });
}

}  // namespace yoso
