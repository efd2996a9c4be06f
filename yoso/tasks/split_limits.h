// Options that use a part of the data: max_train, max_dev, max_test (0: all), for runs of minutes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "yoso/core/random.h"
#include "yoso/tasks/task.h"
#include "yoso/tasks/task_options.h"

namespace yoso {

// All numbers below `count` in a random order.
inline std::vector<int64_t> shuffled(int64_t count, int64_t seed) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  shuffle(order, Random(static_cast<uint64_t>(seed), 0));
  return order;
}

class SplitLimits {
 public:
  explicit SplitLimits(OptionReader& reader) {
    constexpr std::array kKeys = {"max_train", "max_dev", "max_test"};
    for (size_t i = 0; i < kKeys.size(); ++i)
      most_[i] = reader.integer(kKeys[i], 0, 0, std::numeric_limits<int64_t>::max());
  }

  // Keeps as many of the numbers as the split may have, a random choice, in their order.
  void apply(Split split, std::vector<int64_t>& examples) const {
    const int64_t most = most_[static_cast<size_t>(split)];
    if (most == 0 || most >= std::ssize(examples)) return;
    shuffle(examples, Random(0, 1));
    examples.resize(static_cast<size_t>(most));
    std::sort(examples.begin(), examples.end());
  }

 private:
  std::array<int64_t, 3> most_;
};

}  // namespace yoso
