// Tables as Markdown and as HTML, and the page around them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace yoso {

// Rows of cells, as text; the first row and the first column are heads.
using TextTable = std::vector<std::vector<std::string>>;

std::string markdown_table(const TextTable& rows);
std::string html_table(const TextTable& rows);
std::string paragraph(const std::string& text);

// One page that needs no other file. `body` is HTML, `title` and `heading` are text.
std::string html_page(const std::string& title, const std::string& heading,
                      const std::string& body);

}  // namespace yoso
