// SPDX-License-Identifier: Apache-2.0
#include <numeric>

#include "tests/fuzz/refuse.h"
#include "yoso/train/safetensors.h"

// Touches every byte that the header promises: one beyond the file is caught by the sanitizer.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  yoso::read_or_refuse([&] {
    const auto file = std::as_bytes(std::span(data, size));
    const yoso::Safetensors content = yoso::parse_safetensors(file, "fuzz");
    for (const yoso::TensorView& tensor : content.tensors) {
      volatile uint8_t sum = std::accumulate(
          tensor.bytes.begin(), tensor.bytes.end(), uint8_t{0},
          [](uint8_t a, std::byte b) { return static_cast<uint8_t>(a + std::to_integer<int>(b)); });
      static_cast<void>(sum);
    }
  });
  return 0;
}
