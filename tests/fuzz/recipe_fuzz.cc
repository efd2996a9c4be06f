// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/refuse.h"
#include "yoso/train/recipe.h"

// A recipe that is read must come back from what is written beside the checkpoint.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::string written;
  yoso::read_or_refuse([&] { written = yoso::to_toml(yoso::parse_recipe(text, "fuzz")); });
  if (!written.empty() && yoso::to_toml(yoso::parse_recipe(written, "written")) != written) {
    std::abort();
  }
  return 0;
}
