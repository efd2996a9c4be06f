// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "tests/fuzz/refuse.h"
#include "yoso/text/tokenizer_files.h"

// A tokenizer.json, and after a zero byte a text: what is encoded can be decoded.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), size);
  const std::string_view text = input.substr(std::min(end + 1, size));
  yoso::read_or_refuse([&] {
    const yoso::Tokenizer tokenizer = yoso::parse_tokenizer(input.substr(0, end), "fuzz");
    for (const yoso::Encoding& encoding : {tokenizer.encode(text), tokenizer.encode(text, text)}) {
      if (encoding.ids.size() != encoding.type_ids.size()) std::abort();
      tokenizer.decode(encoding.ids, yoso::SpecialTokens::kWith);
    }
  });
  return 0;
}
