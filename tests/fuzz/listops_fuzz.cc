// SPDX-License-Identifier: Apache-2.0
#include <sstream>

#include "tests/fuzz/refuse.h"
#include "yoso/tasks/listops_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  yoso::read_or_refuse([&] {
    std::istringstream in(std::string(reinterpret_cast<const char*>(data), size));
    const yoso::Examples examples = yoso::listops::read_file(in, "fuzz", /*max_length=*/64);
    for (int64_t i = 0; i < examples.size(); ++i) {
      const bool good = examples.label(i) >= 0 && examples.label(i) <= 9 &&
                        !examples.symbols(i).empty() && examples.symbols(i).size() <= 64;
      if (!good) std::abort();
    }
  });
  return 0;
}
