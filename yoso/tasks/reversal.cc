// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/reversal.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <sstream>

#include "yoso/core/check.h"
#include "yoso/core/random.h"
#include "yoso/tasks/lines.h"
#include "yoso/tasks/task_options.h"

namespace yoso {

Reversal::Reversal(const TaskOptions& options) {
  OptionReader reader("reversal", options);
  length_ = reader.integer("length", 32, 1, 1'000'000);
  symbols_ = reader.integer("symbols", 16, 2, 1'000'000);
  seed_ = reader.integer("seed", 0, 0, std::numeric_limits<int64_t>::max());
  sizes_ = {int64_t{1} << 20, reader.integer("dev_size", 1024, 1, 1'000'000),
            reader.integer("test_size", 1024, 1, 1'000'000)};
  options_ = reader.finish();
}

Batch Reversal::batch(Split split, std::span<const int64_t> examples) const {
  const auto rows = static_cast<int64_t>(examples.size());
  Batch batch{at::empty({rows, length_}, at::kLong), at::empty({rows, length_}, at::kBool),
              at::empty({rows, length_}, at::kLong)};
  auto* tokens = batch.tokens.mutable_data_ptr<int64_t>();
  auto* labels = batch.labels.mutable_data_ptr<int64_t>();
  std::fill_n(batch.mask.mutable_data_ptr<bool>(), rows * length_, true);
  for (const int64_t example : examples) {
    check_example(example, size(split), split);
    const auto stream = static_cast<uint64_t>(example) << 2 | static_cast<uint64_t>(split);
    Random random(static_cast<uint64_t>(seed_), stream);
    for (int64_t i = 0; i < length_; ++i) {
      const int64_t symbol = random.below(static_cast<uint32_t>(symbols_));
      tokens[i] = 1 + symbol;
      labels[length_ - 1 - i] = symbol;
    }
    tokens += length_;
    labels += length_;
  }
  return batch;
}

std::vector<int64_t> Reversal::encode(std::string_view line) const {
  std::vector<int64_t> tokens;
  std::istringstream words{std::string(line)};
  for (std::string word; words >> word;) {
    int64_t symbol = -1;
    const char* end = word.data() + word.size();
    const auto [stop, error] = std::from_chars(word.data(), end, symbol);
    if (error != std::errc{} || stop != end || symbol < 0 || symbol >= symbols_) {
      fail("reversal: word is ", in_quotes(word), ", expected an integer from 0 to ", symbols_ - 1);
    }
    tokens.push_back(1 + symbol);
  }
  if (std::ssize(tokens) > length_) {
    fail("reversal: line has ", tokens.size(), " numbers, expected at most ", length_);
  }
  return tokens;
}

}  // namespace yoso
