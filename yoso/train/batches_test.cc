// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/batches.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <set>
#include <utility>

#include "yoso/core/check.h"

namespace yoso {
namespace {

using testing::ElementsAre;

// Example i is the token i + 1; batches that hold example `bad` cannot be read.
class CountingTask final : public Task {
 public:
  explicit CountingTask(int64_t bad = -1) : bad_(bad) {}
  int64_t vocab_size() const override { return 1000; }
  int64_t num_classes() const override { return 2; }
  int64_t max_length() const override { return 1; }
  int64_t size(Split) const override { return 10; }
  Batch batch(Split, std::span<const int64_t> examples) const override {
    for (const int64_t i : examples)
      if (i == bad_) fail("example ", i, " is bad");
    const at::Tensor tokens =
        at::tensor(std::vector<int64_t>(examples.begin(), examples.end()), at::kLong) + 1;
    return {tokens.unsqueeze(1), at::ones_like(tokens.unsqueeze(1), at::kBool),
            at::zeros_like(tokens)};
  }
  std::vector<int64_t> encode(std::string_view) const override { return {}; }
  std::string class_name(int64_t) const override { return ""; }
  TaskOptions resolved_options() const override { return {}; }

 private:
  int64_t bad_;
};

TrainConfig config(int64_t seed, int64_t length_window) {
  TrainConfig train;
  train.batch_size = 4;
  train.seed = seed;
  train.length_window = length_window;
  return train;
}

// Lengths 0 to 9, no two alike.
int64_t length(int64_t example) { return example * 7 % 10; }

TEST(TrainingOrder, AnEpochHoldsEveryExampleOnce) {
  TrainingOrder order(10, config(7, 1), length);
  std::vector<int64_t> numbers;
  for (int64_t batch = 0; batch < 5; ++batch)
    for (const int64_t i : order.examples(batch)) numbers.push_back(i);
  const std::vector<int64_t> first(numbers.begin(), numbers.begin() + 10);
  const std::vector<int64_t> second(numbers.begin() + 10, numbers.end());
  EXPECT_THAT(first, testing::UnorderedElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_THAT(second, testing::UnorderedElementsAreArray(first));
  EXPECT_NE(first, second);
}

TEST(TrainingOrder, ABatchIsAFunctionOfItsNumberAndTheSeed) {
  for (const int64_t window : {1, 3}) {
    TrainingOrder order(10, config(7, window), length), late(10, config(7, window), length),
        other(10, config(8, window), length);
    std::vector<std::vector<int64_t>> batches, others;
    for (int64_t batch = 0; batch < 8; ++batch) {
      batches.push_back(order.examples(batch));
      others.push_back(other.examples(batch));
    }
    for (int64_t batch = 5; batch < 8; ++batch)
      EXPECT_EQ(late.examples(batch), batches[static_cast<size_t>(batch)]);
    EXPECT_NE(batches, others);
  }
}

TEST(TrainingOrder, AWindowHoldsTheSameExamplesInBatchesOfLikeLengths) {
  constexpr int64_t kWindow = 5;  // 20 examples: two epochs
  TrainingOrder random(10, config(7, 1), length), sorted(10, config(7, kWindow), length);
  std::vector<int64_t> random_examples, sorted_examples;
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (int64_t batch = 0; batch < kWindow; ++batch) {
    std::ranges::copy(random.examples(batch), std::back_inserter(random_examples));
    const std::vector<int64_t> examples = sorted.examples(batch);
    std::ranges::copy(examples, std::back_inserter(sorted_examples));
    ranges.emplace_back(length(examples.front()), length(examples.back()));
  }
  EXPECT_THAT(sorted_examples, testing::UnorderedElementsAreArray(random_examples));
  EXPECT_FALSE(std::ranges::is_sorted(ranges)) << "batches of a window are shuffled";
  std::ranges::sort(ranges);
  EXPECT_THAT(ranges, ElementsAre(testing::Pair(0, 1), testing::Pair(2, 3), testing::Pair(4, 5),
                                  testing::Pair(6, 7), testing::Pair(8, 9)));
}

TEST(Padded, WidthsAreFewAndWhatIsAddedIsPadding) {
  const at::Tensor tokens = at::arange(1, 4).expand({2, 3}), mask = tokens > 0;
  for (const auto& [longest, width] :
       {std::pair<int64_t, int64_t>{3, 3}, {32, 3}, {64, 4}, {100, 4}, {200, 7}, {2000, 63}}) {
    const Batch got = padded({tokens, mask, tokens}, longest);
    ASSERT_EQ(got.tokens.size(-1), width);
    EXPECT_TRUE(at::equal(got.mask, at::arange(1, width + 1).expand({2, width}) <= 3));
    EXPECT_TRUE(at::equal(got.tokens, at::arange(1, width + 1).expand({2, width}) * got.mask));
    EXPECT_TRUE(at::equal(got.labels.masked_select(got.mask), tokens.flatten()));
    EXPECT_TRUE((got.labels.masked_select(got.mask.logical_not()) == -100).all().item<bool>());
  }
  std::set<int64_t> widths;
  for (int64_t columns = 1; columns <= 2000; ++columns) {
    const at::Tensor pairs = at::zeros({1, 2, columns}, at::kLong);
    const Batch got = padded({pairs, pairs > 0, at::zeros({1}, at::kLong)}, 2000);
    ASSERT_EQ(got.labels.dim(), 1);
    widths.insert(got.tokens.size(-1));
  }
  EXPECT_EQ(widths.size(), static_cast<size_t>(kWidths));
  EXPECT_EQ(*widths.rbegin(), 2000);
}

TEST(BoundOfReal, IsAboveThemAndOneOfFewWherePaddingIsWorthIt) {
  for (const int64_t tokens : {400, 31, 16, 5}) {
    const int64_t step = (tokens + kBounds - 1) / kBounds;
    std::set<int64_t> bounds;
    for (int64_t real = 0; real <= tokens; ++real) {
      const auto bound = bound_of_real((at::arange(tokens) < real).view({1, 1, tokens}));
      if (!bound) {
        EXPECT_GT(5 * (real + step), 4 * tokens);
        continue;
      }
      EXPECT_GT(*bound, real);
      EXPECT_LE(*bound, real + step);
      bounds.insert(*bound);
    }
    EXPECT_FALSE(bounds.empty());
    EXPECT_LE(bounds.size(), static_cast<size_t>(kBounds + 1));
  }
  EXPECT_FALSE(bound_of_real(at::zeros({0, 3}, at::kBool)));
}

TEST(BatchReader, GivesBatchesInOrder) {
  BatchReader reader(std::make_shared<CountingTask>(), Split::kTrain, 2, 10,
                     [](int64_t batch) { return std::vector<int64_t>{batch}; });
  for (int64_t batch = 2; batch < 10; ++batch)
    EXPECT_EQ(reader.next().tokens.item<int64_t>(), batch + 1);
}

TEST(BatchReader, AnErrorComesWithItsBatch) {
  BatchReader reader(std::make_shared<CountingTask>(1), Split::kTrain, 0, 3,
                     [](int64_t batch) { return std::vector<int64_t>{batch}; });
  EXPECT_EQ(reader.next().tokens.item<int64_t>(), 1);
  EXPECT_THROW(reader.next(), Error);
}

TEST(BatchReader, EndsWhenNobodyReadsOn) {
  BatchReader reader(std::make_shared<CountingTask>(), Split::kTrain, 0, int64_t{1} << 40,
                     [](int64_t batch) { return std::vector<int64_t>{batch % 10}; });
  reader.next();
}

// The limits of recipe.cc, and a run that was resumed at the last batch with as many before it.
TEST(TrainingOrder, TheLastBatchOfTheLongestRunHoldsExamples) {
  TrainConfig train;
  train.batch_size = 1 << 18;
  const std::vector<int64_t> last =
      TrainingOrder(10, train, length).examples((int64_t{1} << 43) - 1);
  EXPECT_EQ(last.size(), size_t{1} << 18);
  EXPECT_THAT(last, testing::Each(testing::AllOf(testing::Ge(0), testing::Lt(10))));
}

}  // namespace
}  // namespace yoso
