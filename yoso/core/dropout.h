// Which elements dropout drops: each with probability p, by 16 bits of a counter-based random block
// (random.h), so that a mask can be drawn again instead of being kept.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace yoso {

struct DropoutRate {
  static constexpr int64_t kWhole = 65536;
  static constexpr int64_t kPerBlock = 8;  // elements that a random block decides on

  int64_t dropped = 0;  // p in parts of kWhole

  // p from 0 to 1, rounded.
  static DropoutRate of(double p) { return {std::lround(p * double{kWhole})}; }

  // 1 / (1 - p)
  template <class T>
  constexpr T scale() const {
    return T{kWhole} / static_cast<T>(kWhole - dropped);
  }
  // Whether the element that comes as number i % 8 in its block is dropped.
  constexpr bool drops(const std::array<uint32_t, 4>& block, int64_t i) const {
    return (block[static_cast<size_t>(i % kPerBlock / 2)] >> (i % 2 * 16) & 0xffff) < dropped;
  }
};

}  // namespace yoso
