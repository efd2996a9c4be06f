// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "tests/fuzz/refuse.h"
#include "yoso/tasks/manpages.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  yoso::manpages::is_link(source);
  const yoso::manpages::Page page = yoso::manpages::parse(source);
  // What a tab-separated line could not hold.
  if (page.text.find_first_of("\t\n\r") != std::string::npos) std::abort();
  for (const std::string& name : page.cited)
    if (name.size() < 4) std::abort();
  return 0;
}
