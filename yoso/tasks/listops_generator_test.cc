// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/listops_generator.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "yoso/core/random.h"
#include "yoso/core/testing.h"
#include "yoso/cpu/parallel.h"
#include "yoso/tasks/listops_language.h"

namespace yoso::listops {
namespace {

using testing::HasSubstr;
using Expression = std::vector<uint8_t>;

std::vector<Expression> expressions(const TreeSettings& settings, int64_t count) {
  std::vector<Expression> all;
  generate(settings, count,
           [&](std::span<const uint8_t> e) { all.emplace_back(e.begin(), e.end()); });
  return all;
}

// Every tree of up to 11 symbols is kept, so that numbers of draws can be followed by hand.
TreeSettings tiny() {
  return {.above_length = 0, .below_length = 12, .max_depth = 2, .max_args = 3};
}

TEST(ListOpsGenerator, DrawsInTheOrderOfTheSpecification) {
  const TreeSettings settings = tiny();
  int64_t trees = 0;
  for (uint64_t attempt = 0; attempt < 100; ++attempt) {
    Random random(settings.seed, attempt);
    Expression expected;
    if (random.uniform() > 0.25) {
      expected = {static_cast<uint8_t>(random.below(10))};
    } else {
      ++trees;
      const uint32_t args = 2 + random.below(2);
      // At the greatest depth a digit needs no draw to be one.
      for (uint32_t i = 0; i < args; ++i)
        expected.push_back(static_cast<uint8_t>(random.below(10)));
      expected.insert(expected.begin(),
                      std::array<uint8_t, 4>{kMin, kMax, kMed, kSm}[random.below(4)]);
      expected.push_back(kClose);
    }
    EXPECT_EQ(draw(settings, attempt), expected) << attempt;
  }
  EXPECT_GT(trees, 10);
}

TEST(ListOpsGenerator, KeepsLengthsStrictlyInside) {
  TreeSettings settings = tiny();
  settings.above_length = 3;
  settings.below_length = 5;
  for (const Expression& e : expressions(settings, 100)) EXPECT_EQ(e.size(), 4);
}

TEST(ListOpsGenerator, GivesTheSameForAnyNumberOfThreads) {
  const TreeSettings settings{.above_length = 50, .below_length = 300, .seed = 7};
  const int64_t before = cpu::num_threads();
  cpu::set_num_threads(1);
  const auto expected = expressions(settings, 3000);
  for (const int64_t threads : {2, 5}) {
    cpu::set_num_threads(threads);
    EXPECT_EQ(expressions(settings, 3000), expected) << threads << " threads";
  }
  cpu::set_num_threads(before);
}

TEST(ListOpsGenerator, AShorterSequenceIsABeginningOfALongerOne) {
  const TreeSettings settings{.above_length = 50, .below_length = 300};
  auto longer = expressions(settings, 2000);
  longer.resize(300);
  EXPECT_EQ(expressions(settings, 300), longer);
}

TEST(ListOpsGenerator, AnotherSeedGivesOtherExpressions) {
  TreeSettings settings{.above_length = 50, .below_length = 300};
  const auto first = expressions(settings, 100);
  settings.seed = 1;
  const auto second = expressions(settings, 100);
  for (const Expression& e : second) EXPECT_EQ(std::count(first.begin(), first.end(), e), 0);
}

TEST(ListOpsGenerator, GivesEveryExpressionOnce) {
  // 10 digits, 4 operators on 2 or 3 of them: 10 + 4 * (100 + 1000) different trees.
  const auto all = expressions(tiny(), 4410);
  std::set<std::string> different;
  for (const Expression& e : all) different.emplace(e.begin(), e.end());
  EXPECT_EQ(different.size(), 4410);
}

TEST(ListOpsGenerator, SaysSoWhenThereAreNoMore) {
  const auto all = [] { expressions(tiny(), 4411); };
  EXPECT_EQ(error_of(all),
            "listops: only 4410 different expressions of more than 0 and fewer than 12 symbols "
            "found, expected 4411");
}

TEST(ListOpsGenerator, RefusesSettingsOutOfRange) {
  const auto message = [](const TreeSettings& s) { return error_of([&] { expressions(s, 1); }); };
  EXPECT_THAT(message({.max_depth = 0}), HasSubstr("listops: max_depth is 0, expected 1 to"));
  EXPECT_THAT(message({.max_args = 1}), HasSubstr("listops: max_args is 1, expected 2 to"));
  EXPECT_THAT(message({.above_length = 10, .below_length = 11}), HasSubstr("below_length is 11"));
}

// Wide bands around what an independent program measured on 20,000 trees of the same distribution:
// 8.3 % kept; lengths: median 961, mean 1,039, 90 % below 1,649; depth 10 always reached; each
// root operator alike; label 0: 17.0 %, 9: 16.7 %, the others 7.5 to 9.1 %.
TEST(ListOpsGenerator, FollowsTheDistributionOfTheLongRangeArena) {
  const TreeSettings settings;
  constexpr int64_t kAttempts = 50'000, kCount = 5000;
  int64_t kept = 0;
  for (uint64_t attempt = 0; attempt < kAttempts; ++attempt)
    kept += draw(settings, attempt).has_value();
  EXPECT_NEAR(static_cast<double>(kept) / kAttempts, 0.083, 0.006);

  std::vector<double> lengths;
  std::map<int64_t, double> labels;
  std::map<uint8_t, double> roots;
  double sum = 0;
  for (const Expression& e : expressions(settings, kCount)) {
    lengths.push_back(static_cast<double>(e.size()));
    sum += lengths.back();
    labels[evaluate(e)] += 1.0 / kCount;
    roots[e[0]] += 1.0 / kCount;
    int64_t open = 0, deepest = 0;
    for (const uint8_t symbol : e) {
      open += is_operator(symbol) - (symbol == kClose);
      deepest = std::max(deepest, open);
    }
    EXPECT_EQ(deepest, 9);  // and the digits inside are at depth 10
  }
  std::sort(lengths.begin(), lengths.end());
  EXPECT_GT(lengths.front(), 500);
  EXPECT_LT(lengths.front(), 520);
  EXPECT_NEAR(lengths[kCount / 2], 961, 40);
  EXPECT_NEAR(sum / kCount, 1039, 30);
  EXPECT_NEAR(lengths[kCount * 9 / 10], 1649, 50);
  EXPECT_GT(lengths.back(), 1970);
  EXPECT_LT(lengths.back(), 2000);
  for (const uint8_t op : {kMin, kMax, kMed, kSm}) EXPECT_NEAR(roots[op], 0.25, 0.03);
  EXPECT_NEAR(labels[0], 0.170, 0.02);
  EXPECT_NEAR(labels[9], 0.167, 0.02);
  for (int64_t label = 1; label < 9; ++label) EXPECT_NEAR(labels[label], 0.083, 0.02) << label;
}

}  // namespace
}  // namespace yoso::listops
