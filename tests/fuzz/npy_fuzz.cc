// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/refuse.h"
#include "yoso/tasks/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  yoso::read_or_refuse([&] {
    const yoso::Npy npy = yoso::parse_npy({data, size}, "fuzz", "|u1", /*item_bytes=*/1);
    int64_t items = 1;
    for (const int64_t extent : npy.shape) items *= extent;
    if (items != std::ssize(npy.data)) std::abort();
  });
  return 0;
}
