// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/tables.h"

#include "yoso/cli/chart.h"
#include "yoso/core/check.h"

namespace yoso {

std::string markdown_table(const TextTable& rows) {
  std::string text;
  for (size_t i = 0; i < rows.size(); ++i) {
    text += "|";
    for (const std::string& cell : rows[i]) text += " " + cell + " |";
    text += "\n";
    if (i > 0) continue;
    text += "|";
    for (size_t column = 0; column < rows[i].size(); ++column) text += column ? "---:|" : "---|";
    text += "\n";
  }
  return text;
}

std::string html_table(const TextTable& rows) {
  std::string text = "<div class=\"wide\"><table>\n";
  for (size_t i = 0; i < rows.size(); ++i) {
    const char* tag = i == 0 ? "th" : "td";
    text += "<tr>";
    for (const std::string& cell : rows[i])
      text += join("<", tag, ">", escape_markup(cell), "</", tag, ">");
    text += "</tr>\n";
  }
  return text + "</table></div>\n";
}

std::string paragraph(const std::string& text) {
  return join("<p>", escape_markup(text), "</p>\n");
}

std::string html_page(const std::string& title, const std::string& heading,
                      const std::string& body) {
  constexpr const char* kStyle = R"(
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;
background:#fff;color:#1f2328}
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem;border-bottom:1px solid #d9dee3;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
.wide{overflow-x:auto}svg{max-width:100%;height:auto}code{word-break:break-all}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}th,td{border-color:#30363d}}
)";
  return join(
      "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width\">\n<title>",
      escape_markup(title), "</title>\n<style>", kStyle, "</style></head>\n<body>\n<h1>",
      escape_markup(heading), "</h1>\n", body, "</body>\n</html>\n");
}

}  // namespace yoso
