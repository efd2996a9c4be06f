// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/image.h"

#include <gmock/gmock.h>

#include "yoso/core/testing.h"
#include "yoso/tasks/cifar_testing.h"
#include "yoso/tasks/image_codecs.h"
#include "yoso/tasks/task_testing.h"

namespace yoso {
namespace {

using testing::Each;
using testing::ElementsAre;

// Four images a file; image i of train is of brightness i and class i % 10.
void write_batches(const TestFolder& folder) {
  int i = 0;
  for (const char* name : cifar::kTrainFiles) {
    std::string records;
    for (const int end = i + 4; i < end; ++i) {
      const auto c = static_cast<uint8_t>(i);
      records += cifar::record(i % 10, {c, c, c});
    }
    folder.write(name, records);
  }
  folder.write("test_batch.bin", cifar::record(7, {200, 200, 200}));
}

std::vector<int64_t> labels(const Task& task, Split split) {
  std::vector<int64_t> all;
  for (int64_t i = 0; i < task.size(split); ++i)
    all.push_back(task.batch(split, std::array{i}).labels.item<int64_t>());
  return all;
}

TEST(ImageTask, TheLastImagesOfTrainAreDev) {
  const TestFolder folder;
  write_batches(folder);
  const auto task = make_task("image", folder.path(), {{"dev_size", "3"}});
  EXPECT_EQ(task->max_length(), 1024);
  EXPECT_EQ(task->num_classes(), 10);
  EXPECT_EQ(task->size(Split::kTrain), 17);
  EXPECT_THAT(labels(*task, Split::kDev), ElementsAre(7, 8, 9));
  EXPECT_THAT(labels(*task, Split::kTest), ElementsAre(7));
  const Batch dev = task->batch(Split::kDev, std::array<int64_t, 2>{0, 2});
  EXPECT_THAT(dev.tokens.sizes(), ElementsAre(2, 1024));
  EXPECT_THAT(values<int64_t>(dev.tokens[1]), Each(19));
}

TEST(ImageTask, MasksBlackPixelsOrNone) {
  const TestFolder folder;
  write_batches(folder);
  const auto batch = [&](const TaskOptions& options) {
    return make_task("image", folder.path(), options)
        ->batch(Split::kTrain, std::array<int64_t, 2>{0, 1});
  };
  for (const TaskOptions& options :
       {TaskOptions{{"dev_size", "3"}}, TaskOptions{{"dev_size", "3"}, {"mask", "nonzero"}}}) {
    const Batch nonzero = batch(options);
    EXPECT_THAT(values<bool>(nonzero.mask[0]), Each(false));
    EXPECT_THAT(values<bool>(nonzero.mask[1]), Each(true));
    EXPECT_THAT(values<int64_t>(nonzero.tokens[1]), Each(1));
  }
  const Batch all = batch({{"dev_size", "3"}, {"mask", "all"}});
  EXPECT_THAT(values<bool>(all.mask), Each(true));
  EXPECT_THAT(values<int64_t>(all.tokens[0]), Each(1));
  EXPECT_EQ(make_task("image", "", {})->vocab_size(), 256);
  EXPECT_EQ(make_task("image", "", {{"mask", "all"}})->vocab_size(), 257);
}

TEST(ImageTask, UsesAPartOfASplit) {
  const TestFolder folder;
  write_batches(folder);
  const auto task =
      make_task("image", folder.path(), {{"dev_size", "10"}, {"max_train", "4"}, {"max_dev", "5"}});
  EXPECT_EQ(task->size(Split::kTrain), 4);
  const auto dev = labels(*task, Split::kDev);
  EXPECT_EQ(dev.size(), 5);
  EXPECT_EQ(std::set(dev.begin(), dev.end()).size(), 5);
  EXPECT_EQ(task->size(Split::kTest), 1);
}

TEST(ImageTask, AnswersQuestionsAboutFiles) {
  const TestFolder folder;
  Image image{32, 32, 1, std::vector<uint8_t>(1024, 9)};
  image.pixels[3] = 0;
  write_png(folder / "a.png", image);
  const auto task = make_task("image", "/absent", {});
  const Batch question = task->question(folder / "a.png");
  EXPECT_THAT(question.tokens.sizes(), ElementsAre(1, 1024));
  EXPECT_EQ(question.tokens[0][2].item<int64_t>(), 9);
  EXPECT_TRUE(question.mask[0][2].item<bool>());
  EXPECT_FALSE(question.mask[0][3].item<bool>());
  EXPECT_EQ(task->class_name(9), "truck");
  write_png(folder / "b.png", {2, 2, 1, {1, 2, 3, 4}});
  EXPECT_EQ(error_of([&] { task->question(folder / "b.png"); }),
            folder / "b.png" + ": is of 2 x 2 pixels, expected 32 x 32");
}

TEST(ImageTask, SaysWhatIsWrong) {
  const TestFolder folder;
  write_batches(folder);
  const auto message = [&](const TaskOptions& options) {
    return error_of([&] { make_task("image", folder.path(), options)->size(Split::kTrain); });
  };
  EXPECT_EQ(message({{"mask", "some"}}), "image: mask is 'some', expected nonzero or all");
  EXPECT_EQ(message({{"size", "1"}}),
            "image: unknown option 'size', expected one of dev_size, mask, max_dev, max_test, "
            "max_train");
  EXPECT_EQ(message({}), "image: dev_size is 5000, expected fewer than the 20 of train");
  const auto task = make_task("image", folder.path(), {{"dev_size", "3"}});
  EXPECT_EQ(error_of([&] { task->batch(Split::kTrain, std::array<int64_t, 1>{17}); }),
            "batch: example is 17, expected 0 to 16 of train");
  EXPECT_EQ(error_of([&] { task->class_name(10); }), "image: label is 10, expected 0 to 9");
}

TEST(ImageTask, GivesEqualBatchesToSeveralThreads) {
  const TestFolder folder;
  for (const char* name : cifar::kTrainFiles) {
    std::string records;
    for (int i = 0; i < 40; ++i) records += cifar::record(i % 10, {static_cast<uint8_t>(i), 1, 2});
    folder.write(name, records);
  }
  expect_equal_batches_on_threads([&] {
    return make_task("image", folder.path(), {{"dev_size", "3"}});
  });
}

}  // namespace
}  // namespace yoso
