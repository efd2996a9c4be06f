// Labelled sequences of symbols in memory: one flat array for all of them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace yoso {

// A symbol is a byte; a task's token of it is symbol + 1, because token 0 is padding.
class Examples {
 public:
  void add(std::span<const uint8_t> symbols, int64_t label) {
    symbols_.insert(symbols_.end(), symbols.begin(), symbols.end());
    ends_.push_back(static_cast<int64_t>(symbols_.size()));
    labels_.push_back(static_cast<int32_t>(label));
  }

  int64_t size() const { return static_cast<int64_t>(labels_.size()); }
  int64_t label(int64_t i) const { return labels_[static_cast<size_t>(i)]; }

  std::span<const uint8_t> symbols(int64_t i) const {
    const int64_t begin = i == 0 ? 0 : ends_[static_cast<size_t>(i) - 1];
    const int64_t end = ends_[static_cast<size_t>(i)];
    return {symbols_.data() + begin, static_cast<size_t>(end - begin)};
  }

 private:
  std::vector<uint8_t> symbols_;
  std::vector<int64_t> ends_;  // [size()]
  std::vector<int32_t> labels_;
};

}  // namespace yoso
