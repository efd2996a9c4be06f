// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/batches.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

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

TEST(TrainingOrder, AnEpochHoldsEveryExampleOnce) {
  TrainingOrder order(10, 4, 7);
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
  TrainingOrder order(10, 4, 7), late(10, 4, 7), other(10, 4, 8);
  std::vector<std::vector<int64_t>> batches, others;
  for (int64_t batch = 0; batch < 8; ++batch) {
    batches.push_back(order.examples(batch));
    others.push_back(other.examples(batch));
  }
  for (int64_t batch = 5; batch < 8; ++batch)
    EXPECT_EQ(late.examples(batch), batches[static_cast<size_t>(batch)]);
  EXPECT_NE(batches, others);
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

}  // namespace
}  // namespace yoso
