// Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011). A number is a function of
// (seed, stream, index) and of nothing else, so any part of a sequence can be drawn again alone.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <utility>
#include <vector>

namespace yoso {

// The four words of block `counter` under `key`.
constexpr std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter,
                                         std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xd2511f53u} * counter[0];
    const uint64_t b = uint64_t{0xcd9e8d57u} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9e3779b9u;
    key[1] += 0xbb67ae85u;
  }
  return counter;
}

// Block `index` of stream `stream` under `seed`: 128 random bits.
constexpr std::array<uint32_t, 4> random_block(uint64_t seed, uint64_t stream, uint64_t index) {
  return philox({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                 static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)},
                {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}

// A sequential reader of one stream, for code that draws a varying number of values.
class Random {
 public:
  constexpr Random(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}

  constexpr uint32_t bits() {
    if (used_ == 4) {
      block_ = random_block(seed_, stream_, index_++);
      used_ = 0;
    }
    return block_[static_cast<size_t>(used_++)];
  }

  // Uniform in [0, 1), 53 bits.
  double uniform() {
    const uint64_t high = bits() >> 5, low = bits() >> 6;
    return static_cast<double>(high << 26 | low) * 0x1p-53;
  }

  // Uniform in [0, n), n >= 1. Draws again where a remainder would favour small values.
  constexpr uint32_t below(uint32_t n) {
    const uint32_t threshold = -n % n;
    for (;;) {
      const uint64_t product = uint64_t{bits()} * n;
      if (static_cast<uint32_t>(product) >= threshold) return static_cast<uint32_t>(product >> 32);
    }
  }

  // Standard normal (Box-Muller; the second value of a pair is dropped).
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }

 private:
  uint64_t seed_, stream_, index_ = 0;
  std::array<uint32_t, 4> block_{};
  int used_ = 4;
};

// Puts fewer than 2^32 items into a random order, all orders alike (Fisher and Yates).
template <class T>
void shuffle(std::vector<T>& items, Random random) {
  for (size_t i = items.size(); i > 1; --i)
    std::swap(items[i - 1], items[random.below(static_cast<uint32_t>(i))]);
}

}  // namespace yoso
