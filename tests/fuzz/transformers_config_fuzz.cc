// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/refuse.h"
#include "yoso/models/transformers_config.h"

// A config.json that is read must come back from what is written.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::string written;
  yoso::read_or_refuse(
      [&] { written = yoso::to_json(yoso::parse_transformers_config(text, "fuzz"), "float32"); });
  if (!written.empty() &&
      yoso::to_json(yoso::parse_transformers_config(written, "written"), "float32") != written) {
    std::abort();
  }
  return 0;
}
