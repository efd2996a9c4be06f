// Text files line by line, and how their content is shown in an error.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <istream>
#include <string>
#include <string_view>

namespace yoso {

// Throws Error with the path and the system's reason.
std::ifstream open_file(const std::filesystem::path& path);

// Calls f(line, number) for every line that is not empty, numbers from 1. Lines end in LF or CR LF,
// the last one may end with the file; a UTF-8 byte order mark before the first one is dropped.
// An Error of f is thrown on with "path:number: " in front.
void for_each_line(std::istream& in, const std::string& path,
                   const std::function<void(std::string_view line, int64_t number)>& f);

// 'text' on one line whatever it holds: control characters as \x0a, cut after 40 bytes.
std::string in_quotes(std::string_view text);

}  // namespace yoso
