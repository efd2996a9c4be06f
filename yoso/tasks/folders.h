// What lies in a folder, in an order that does not depend on the file system.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace yoso {

// Entries that `wanted` accepts, sorted by name. Throws Error with the path and the system's
// reason.
std::vector<std::filesystem::path> sorted_entries(
    const std::filesystem::path& folder,
    const std::function<bool(const std::filesystem::directory_entry&)>& wanted);

std::vector<std::filesystem::path> sorted_folders(const std::filesystem::path& folder);

// Files whose names end in one of `endings`.
std::vector<std::filesystem::path> sorted_files(const std::filesystem::path& folder,
                                                const std::vector<std::string>& endings);

}  // namespace yoso
