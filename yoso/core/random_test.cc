// SPDX-License-Identifier: Apache-2.0
#include "yoso/core/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <vector>

namespace yoso {
namespace {

using Block = std::array<uint32_t, 4>;

// Known answers of Random123's philox4x32-10.
TEST(Philox, GivesTheKnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomBlock, UsesAllBitsOfSeedStreamAndIndex) {
  std::set<Block> blocks{random_block(0, 0, 0)};
  for (int bit = 0; bit < 64; ++bit) {
    blocks.insert(random_block(uint64_t{1} << bit, 0, 0));
    blocks.insert(random_block(0, uint64_t{1} << bit, 0));
    blocks.insert(random_block(0, 0, uint64_t{1} << bit));
  }
  EXPECT_EQ(blocks.size(), 1u + 3 * 64);
}

TEST(Random, ReadsTheBlocksOfItsStreamInOrder) {
  Random random(7, 9);
  for (uint64_t index = 0; index < 3; ++index) {
    for (uint32_t word : random_block(7, 9, index)) EXPECT_EQ(random.bits(), word);
  }
}

// Moments of n draws lie within 4 standard deviations of their expectation.
TEST(Random, UniformFillsItsRange) {
  Random random(1, 2);
  const double n = 200000;
  double mean = 0, square = 0, low = 1, high = 0;
  for (int i = 0; i < n; ++i) {
    const double x = random.uniform();
    ASSERT_GE(x, 0);
    ASSERT_LT(x, 1);
    mean += x / n;
    square += x * x / n;
    low = std::min(low, x);
    high = std::max(high, x);
  }
  EXPECT_NEAR(mean, 0.5, 4 * std::sqrt(1 / 12.0 / n));
  EXPECT_NEAR(square, 1 / 3.0, 4 * std::sqrt(4 / 45.0 / n));
  EXPECT_LT(low, 1e-4);
  EXPECT_GT(high, 1 - 1e-4);
}

TEST(Random, BelowIsEven) {
  for (uint32_t n : {1u, 2u, 3u, 7u, 10u, 1000u}) {
    Random random(n, 3);
    const int draws = 100000;
    std::vector<int> count(n);
    for (int i = 0; i < draws; ++i) {
      const uint32_t x = random.below(n);
      ASSERT_LT(x, n);
      ++count[x];
    }
    // Chi-square with n - 1 degrees of freedom has variance 2 (n - 1).
    double chi = 0;
    for (int c : count) chi += std::pow(c - draws / double(n), 2) / (draws / double(n));
    EXPECT_NEAR(chi, n - 1, 5 * std::sqrt(2.0 * (n - 1)) + 1e-9) << n;
  }
}

// For n = 3 * 2^30 the plain product (bits * n) >> 32 gives one remainder of three twice as often.
TEST(Random, BelowIsEvenForLargeRanges) {
  const uint32_t n = 3u << 30;
  Random random(1, 4);
  const int draws = 30000;
  std::array<int, 3> count{};
  for (int i = 0; i < draws; ++i) {
    const uint32_t x = random.below(n);
    ASSERT_LT(x, n);
    ++count[x % 3];
  }
  for (int c : count) EXPECT_NEAR(c, draws / 3, 5 * std::sqrt(draws * 2 / 9.0));
}

TEST(Random, ShufflesAllOrdersAlike) {
  const int draws = 60000;
  std::map<std::vector<int>, int> count;
  for (int i = 0; i < draws; ++i) {
    std::vector<int> items{0, 1, 2};
    shuffle(items, Random(6, static_cast<uint64_t>(i)));
    ++count[items];
  }
  EXPECT_EQ(count.size(), 6u);
  // Five deviations of a binomial variable.
  for (const auto& [order, times] : count)
    EXPECT_NEAR(times, draws / 6, 5 * std::sqrt(draws * 5 / 36.0));
}

TEST(Random, NormalHasTheMomentsOfANormal) {
  Random random(1, 5);
  const double n = 200000;
  double mean = 0, square = 0, cube = 0, fourth = 0;
  for (int i = 0; i < n; ++i) {
    const double x = random.normal();
    ASSERT_TRUE(std::isfinite(x));
    mean += x / n;
    square += x * x / n;
    cube += x * x * x / n;
    fourth += x * x * x * x / n;
  }
  EXPECT_NEAR(mean, 0, 4 * std::sqrt(1 / n));
  EXPECT_NEAR(square, 1, 4 * std::sqrt(2 / n));
  EXPECT_NEAR(cube, 0, 4 * std::sqrt(15 / n));
  EXPECT_NEAR(fourth, 3, 4 * std::sqrt(96 / n));
}

}  // namespace
}  // namespace yoso
