// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/listops.h"

#include <gmock/gmock.h>

#include "yoso/core/testing.h"
#include "yoso/tasks/task_testing.h"

namespace yoso {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kHeader = "Source\tTarget\r\n";

TEST(ListOps, GivesPaddedBatches) {
  const TestFolder folder;
  folder.write("basic_val.tsv", std::string(kHeader) + "[MIN 4 5 ]\t4\r\n7\t7\r\n[SM 1 1 ]\t2\r\n");
  const auto task = make_task("listops", folder.path(), {});
  EXPECT_EQ(task->vocab_size(), 16);
  EXPECT_EQ(task->num_classes(), 10);
  EXPECT_EQ(task->max_length(), 2000);
  EXPECT_FALSE(task->labels_per_token());
  ASSERT_EQ(task->size(Split::kDev), 3);

  const Batch batch = task->batch(Split::kDev, std::array<int64_t, 2>{1, 0});
  EXPECT_THAT(values<int64_t>(batch.tokens), ElementsAre(8, 0, 0, 0, 14, 5, 6, 11));
  EXPECT_THAT(values<bool>(batch.mask), ElementsAre(1, 0, 0, 0, 1, 1, 1, 1));
  EXPECT_THAT(values<int64_t>(batch.labels), ElementsAre(7, 4));
  EXPECT_THAT(batch.tokens.sizes(), ElementsAre(2, 4));
  EXPECT_THAT(batch.mask.sizes(), ElementsAre(2, 4));
  EXPECT_THAT(batch.labels.sizes(), ElementsAre(2));
}

TEST(ListOps, EncodesOnlyWholeExpressions) {
  const auto task = make_task("listops", "", {{"max_length", "5"}});
  EXPECT_THAT(task->encode("[MAX 0 9]"), ElementsAre(12, 1, 10, 11));
  EXPECT_THAT(task->encode("[MAX 0 9 3 3 3]"), ElementsAre(12, 1, 10, 4, 4));
  EXPECT_THAT(error_of([&] { task->encode("hello"); }), HasSubstr("listops: word is 'hello'"));
  EXPECT_THAT(error_of([&] { task->encode("[MAX 0 9"); }), HasSubstr("listops: expression ends"));
  EXPECT_EQ(task->class_name(3), "3");
}

TEST(ListOps, SaysWhatIsMissing) {
  const TestFolder folder;
  folder.write("basic_train.tsv", "");
  folder.write("basic_val.tsv", std::string(kHeader) + "[MAX 1 2 ]\tx\n");
  const auto task = make_task("listops", folder.path(), {});
  EXPECT_EQ(error_of([&] { task->size(Split::kTest); }),
            folder / "basic_test.tsv" + ": cannot open: No such file or directory");
  EXPECT_EQ(error_of([&] { task->size(Split::kTrain); }),
            folder / "basic_train.tsv" + ": has no examples, expected 1 or more");
  EXPECT_EQ(error_of([&] { task->size(Split::kDev); }),
            folder / "basic_val.tsv" + ":2: value is 'x', expected a digit");
  EXPECT_EQ(error_of([&] {
              make_task("listops", "", {{"seed", "1"}});
            }),
            "listops: unknown option 'seed', expected one of max_length");
}

TEST(ListOps, GivesEqualBatchesToSeveralThreads) {
  const TestFolder folder;
  std::string content = kHeader;
  for (int64_t i = 0; i < 200; ++i) {
    content += "[MAX";
    for (int64_t j = 0; j <= i % 7; ++j) content += join(" ", (i + j) % 10);
    content += " ]\t1\r\n";
  }
  folder.write("basic_train.tsv", content);
  expect_equal_batches_on_threads([&] { return make_task("listops", folder.path(), {}); });
}

TEST(Tasks, AreKnownByName) {
  EXPECT_THAT(task_names(), ElementsAre("image", "listops", "pathfinder256", "pathfinder32",
                                        "pathfinder64", "pathx", "retrieval", "reversal", "text"));
  EXPECT_EQ(error_of([] { make_task("imdb", "", {}); }),
            "task is 'imdb', expected one of image, listops, pathfinder256, pathfinder32, "
            "pathfinder64, pathx, retrieval, reversal, text");
}

}  // namespace
}  // namespace yoso
