// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/reversal.h"

#include <gmock/gmock.h>

#include <set>

#include "yoso/core/testing.h"
#include "yoso/tasks/task_testing.h"

namespace yoso {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::Ge;
using testing::Le;

TEST(Reversal, LabelsAreTheTokensBackwards) {
  const auto task = make_task("reversal", "", {});
  EXPECT_EQ(task->vocab_size(), 17);
  EXPECT_EQ(task->num_classes(), 16);
  EXPECT_EQ(task->max_length(), 32);
  EXPECT_TRUE(task->labels_per_token());
  const Batch batch = task->batch(Split::kTrain, std::array<int64_t, 3>{0, 5, 1'000'000});
  ASSERT_THAT(batch.tokens.sizes(), ElementsAre(3, 32));
  ASSERT_THAT(batch.labels.sizes(), ElementsAre(3, 32));
  const auto tokens = values<int64_t>(batch.tokens), labels = values<int64_t>(batch.labels);
  EXPECT_THAT(tokens, Each(AllOf(Ge(1), Le(16))));
  EXPECT_THAT(std::set(tokens.begin(), tokens.end()), testing::SizeIs(16));
  EXPECT_THAT(values<bool>(batch.mask), Each(true));
  for (size_t b = 0; b < 3; ++b) {
    for (size_t i = 0; i < 32; ++i) EXPECT_EQ(labels[32 * b + i], tokens[32 * b + 31 - i] - 1);
  }
}

TEST(Reversal, AnExampleIsAFunctionOfSeedSplitAndPlace) {
  const auto first = [](const TaskOptions& options, Split split, std::vector<int64_t> places) {
    return values<int64_t>(make_task("reversal", "", options)->batch(split, places).tokens);
  };
  const auto tokens = first({{"length", "5"}}, Split::kTrain, {7, 8});
  const std::vector<int64_t> second_row(tokens.begin() + 5, tokens.end());
  EXPECT_EQ(first({{"length", "5"}}, Split::kTrain, {8}), second_row);
  EXPECT_NE(first({{"length", "5"}}, Split::kTrain, {7}), second_row);
  EXPECT_NE(first({{"length", "5"}}, Split::kDev, {8}), second_row);
  EXPECT_NE(first({{"length", "5"}, {"seed", "1"}}, Split::kTrain, {8}), second_row);
}

TEST(Reversal, HasTheSizesAskedFor) {
  const auto task = make_task("reversal", "", {{"dev_size", "3"}});
  EXPECT_EQ(task->size(Split::kTrain), 1 << 20);
  EXPECT_EQ(task->size(Split::kDev), 3);
  EXPECT_EQ(task->size(Split::kTest), 1024);
  EXPECT_EQ(error_of([&] { task->batch(Split::kDev, std::array<int64_t, 1>{3}); }),
            "batch: example is 3, expected 0 to 2 of dev");
}

TEST(Reversal, EncodesNumbers) {
  const auto task = make_task("reversal", "", {{"length", "4"}});
  EXPECT_THAT(task->encode(" 3 0\t15 "), ElementsAre(4, 1, 16));
  EXPECT_EQ(task->class_name(15), "15");
  EXPECT_EQ(error_of([&] { task->encode("3 16"); }),
            "reversal: word is '16', expected an integer from 0 to 15");
  EXPECT_EQ(error_of([&] { task->encode("1 2 3 4 5"); }),
            "reversal: line has 5 numbers, expected at most 4");
}

TEST(Reversal, RefusesUnknownOptions) {
  EXPECT_EQ(
      error_of([&] {
        make_task("reversal", "", {{"n", "4"}});
      }),
      "reversal: unknown option 'n', expected one of dev_size, length, seed, symbols, test_size");
}

TEST(Reversal, GivesEqualBatchesToSeveralThreads) {
  expect_equal_batches_on_threads([] { return make_task("reversal", "", {}); });
}

}  // namespace
}  // namespace yoso
