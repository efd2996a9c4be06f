// SPDX-License-Identifier: Apache-2.0
#include <sstream>

#include "tests/fuzz/refuse.h"
#include "yoso/tasks/text_files.h"

// The same bytes as tab-separated lines and as JSON lines.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const yoso::DocumentSink ignore = [](std::string_view, std::string_view) {};
  yoso::read_or_refuse([&] {
    std::istringstream in(text);
    yoso::read_documents_tsv(in, "fuzz", ignore);
  });
  yoso::read_or_refuse([&] {
    std::istringstream in(text);
    yoso::read_documents_jsonl(in, "fuzz", ignore);
  });
  return 0;
}
