// A check for tests: is a text well-formed markup?
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cctype>
#include <string>
#include <vector>

namespace yoso {

// "" when every tag is closed in order, every attribute quoted and every & an entity; else what is
// wrong. Void HTML elements (meta, br) and <!doctype> need no end.
inline std::string markup_fault(const std::string& text) {
  std::vector<std::string> open;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '&') {
      const size_t end = text.find(';', at);
      if (end == std::string::npos || end - at > 7) return "bare & at " + text.substr(at, 20);
    }
    if (text[at] == '>') return "bare > before " + text.substr(at, 20);
    if (text[at] != '<') continue;
    size_t end = at + 1;
    for (char quote = 0; end < text.size() && (quote != 0 || text[end] != '>'); ++end) {
      if (quote != 0) {
        if (text[end] == '<') return "< inside a value at " + text.substr(at, 40);
        if (text[end] == quote) quote = 0;
      } else if (text[end] == '"') {
        if (text[end - 1] != '=') return "stray quote at " + text.substr(at, 40);
        quote = '"';
      } else if (text[end] == '=' && text[end + 1] != '"') {
        return "unquoted value at " + text.substr(at, 40);
      } else if (text[end] == '<') {
        return "< inside a tag at " + text.substr(at, 40);
      }
    }
    if (end >= text.size()) return "unfinished tag at " + text.substr(at, 40);
    const std::string tag = text.substr(at + 1, end - at - 1);
    at = end;
    if (tag.empty()) return "empty tag";
    size_t length = tag[0] == '/' ? 1 : 0;
    while (length < tag.size() && std::isalnum(static_cast<unsigned char>(tag[length]))) ++length;
    const std::string name = tag.substr(0, length);
    if (tag[0] == '/') {
      if (open.empty() || "/" + open.back() != name) return "unexpected <" + name + ">";
      open.pop_back();
    } else if (tag[0] != '!' && tag.back() != '/' && name != "meta" && name != "br") {
      open.push_back(name);
      if (name == "style") at = text.find("</style>", at) - 1;  // CSS may hold any sign
    }
  }
  return open.empty() ? "" : "<" + open.back() + "> is not closed";
}

}  // namespace yoso
