// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/retrieval.h"

#include <gmock/gmock.h>

#include "yoso/core/testing.h"
#include "yoso/tasks/task_testing.h"

namespace yoso {
namespace {

using testing::ElementsAre;

void write(const TestFolder& folder) {
  folder.write(kPairFiles[0], "1.0\ta\tb\txy\tlonger\n0.0\tc\td\t\tz\n0.0\tc\td\tq\tq\n");
  folder.write(kPairFiles[1], "0\ta\tb\tdev\tdev\n");
  folder.write(kPairFiles[2], "1\ta\tb\t\t\n");
}

TEST(Retrieval, GivesPairsPaddedToTheLongest) {
  const TestFolder folder;
  write(folder);
  const auto task = make_task("retrieval", folder.path(), {{"max_length", "4"}});
  EXPECT_TRUE(task->pairs());
  EXPECT_EQ(task->size(Split::kTrain), 3);
  EXPECT_EQ(task->size(Split::kDev), 1);
  EXPECT_EQ(task->length(Split::kTrain, 0), 4);
  EXPECT_EQ(task->length(Split::kTrain, 1), 1);
  const Batch batch = task->batch(Split::kTrain, std::array<int64_t, 2>{1, 0});
  EXPECT_THAT(batch.tokens.sizes(), ElementsAre(2, 2, 4));
  EXPECT_THAT(values<int64_t>(batch.tokens),
              ElementsAre(0, 0, 0, 0, 'z' + 1, 0, 0, 0,  //
                          'x' + 1, 'y' + 1, 0, 0, 'l' + 1, 'o' + 1, 'n' + 1, 'g' + 1));
  EXPECT_TRUE(batch.mask.equal(batch.tokens.ne(0)));
  EXPECT_THAT(values<int64_t>(batch.labels), ElementsAre(0, 1));
  EXPECT_THAT(task->batch(Split::kTest, std::array<int64_t, 1>{0}).tokens.sizes(),
              ElementsAre(1, 2, 1));
  EXPECT_EQ(make_task("retrieval", folder.path(), {{"max_train", "2"}})->size(Split::kTrain), 2);
}

TEST(Retrieval, AnswersQuestionsAboutTwoTexts) {
  const auto task = make_task("retrieval", "/absent", {{"max_length", "3"}});
  const Batch question = task->question("ab\tlong");
  EXPECT_THAT(question.tokens.sizes(), ElementsAre(1, 2, 3));
  EXPECT_THAT(values<int64_t>(question.tokens),
              ElementsAre('a' + 1, 'b' + 1, 0, 'l' + 1, 'o' + 1, 'n' + 1));
  EXPECT_THAT(values<bool>(question.mask), ElementsAre(1, 1, 0, 1, 1, 1));
  for (const std::string line : {"one", "one\ttwo\tthree"}) {
    EXPECT_EQ(error_of([&] { task->question(line); }),
              "retrieval: line is not two texts, expected them with one tab between them");
  }
  EXPECT_EQ(task->class_name(1), "linked");
}

TEST(Retrieval, SaysWhatIsWrong) {
  const TestFolder folder;
  const auto task = make_task("retrieval", folder.path(), {});
  EXPECT_EQ(error_of([&] { task->size(Split::kTrain); }),
            folder / "new_aan_pairs.train.tsv" + ": cannot open: No such file or directory");
  write(folder);
  EXPECT_EQ(error_of([&] { task->batch(Split::kTrain, std::array<int64_t, 1>{3}); }),
            "batch: example is 3, expected 0 to 2 of train");
  EXPECT_EQ(error_of([&] {
              make_task("retrieval", "", {{"length", "1"}});
            }),
            "retrieval: unknown option 'length', expected one of max_dev, max_length, max_test, "
            "max_train");
}

TEST(Retrieval, GivesEqualBatchesToSeveralThreads) {
  const TestFolder folder;
  std::string lines;
  for (int i = 0; i < 200; ++i) lines += join(i % 2, "\ta\tb\t", i, "\t", i * i, "\n");
  folder.write(kPairFiles[0], lines);
  expect_equal_batches_on_threads([&] { return make_task("retrieval", folder.path(), {}); });
}

}  // namespace
}  // namespace yoso
