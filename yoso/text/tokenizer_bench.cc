// Time of a tokenizer on one thread: the one of testdata on its own cases, or YOSO_TOKENIZER (a
// tokenizer.json) on YOSO_TEXT (a file, encoded line by line as tests/references/tokenizers_time.py
// does with the package).
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "yoso/core/file.h"
#include "yoso/text/tokenizer_files.h"

namespace yoso {
namespace {

std::string from_environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : value;
}

void encode(benchmark::State& state) {
  const Tokenizer tokenizer =
      read_tokenizer(from_environment("YOSO_TOKENIZER", YOSO_TESTDATA "/roberta.json"));
  const std::string text = read_text(from_environment("YOSO_TEXT", YOSO_TESTDATA "/cases.json"));
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  size_t tokens = 0;
  for (auto _ : state) {
    tokens = 0;
    for (const std::string& line : lines) tokens += tokenizer.encode(line).ids.size();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
  state.counters["tokens"] = static_cast<double>(tokens);
}
BENCHMARK(encode)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace yoso
