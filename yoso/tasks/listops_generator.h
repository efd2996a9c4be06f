// Random ListOps expressions, distributed as those of the Long Range Arena (Tay et al., 2021).
//
// Attempt i draws a tree from stream i of the seed; those of the wanted length are kept, in the
// order of attempts, each once. The sequence is a function of the settings alone, whatever the
// number of threads.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace yoso::listops {

struct TreeSettings {
  static constexpr const char* kName = "listops";

  int64_t above_length = 500;   // a kept expression has more symbols than this ...
  int64_t below_length = 2000;  // ... and fewer than this
  int64_t max_depth = 10;       // operators inside each other, and the digits of the innermost
  int64_t max_args = 10;        // an operator takes 2 to max_args arguments
  uint64_t seed = 0;

  void check() const;  // throws Error
};

// The expression of one attempt, or nothing when its length is not wanted.
std::optional<std::vector<uint8_t>> draw(const TreeSettings& settings, uint64_t attempt);

// Calls sink(expression) with the first `count` distinct expressions, on the calling thread; draws
// on up to cpu::num_threads() threads. Throws Error when there seem to be no more of them.
void generate(const TreeSettings& settings, int64_t count,
              const std::function<void(std::span<const uint8_t> expression)>& sink);

}  // namespace yoso::listops
