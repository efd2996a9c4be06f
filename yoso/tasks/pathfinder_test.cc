// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/pathfinder.h"

#include <gmock/gmock.h>

#include <set>

#include "yoso/core/testing.h"
#include "yoso/tasks/pathfinder_files.h"
#include "yoso/tasks/task_testing.h"

namespace yoso {
namespace {

void write(const TestFolder& folder, int64_t count, int64_t side = 32) {
  pathfinder::write_generated({.side = side, .difficulty = pathfinder::Difficulty::kEasy}, count,
                              folder.path(), [](int64_t, int64_t) {});
}

TEST(Pathfinder, SplitsTheImagesAtRandom) {
  const TestFolder folder;
  write(folder, 200);
  const auto task = make_task("pathfinder32", folder.path(), {});
  EXPECT_EQ(task->size(Split::kTrain), 160);
  EXPECT_EQ(task->size(Split::kDev), 20);
  EXPECT_EQ(task->size(Split::kTest), 20);
  const auto images = [](const Task& task, Split split) {
    std::set<std::vector<int64_t>> all;
    for (int64_t i = 0; i < task.size(split); ++i)
      all.insert(values<int64_t>(task.batch(split, std::array{i}).tokens));
    return all;
  };
  std::set<std::vector<int64_t>> all;
  for (const Split split : {Split::kTrain, Split::kDev, Split::kTest})
    all.merge(images(*task, split));
  EXPECT_EQ(all.size(), 200);
  EXPECT_EQ(images(*make_task("pathfinder32", folder.path(), {}), Split::kTest),
            images(*task, Split::kTest));
  EXPECT_NE(images(*make_task("pathfinder32", folder.path(), {{"seed", "1"}}), Split::kTest),
            images(*task, Split::kTest));
}

TEST(Pathfinder, GivesPixelsAndLabels) {
  const TestFolder folder;
  write(folder, 10);
  const auto task = make_task("pathfinder32", folder.path(), {});
  const Batch batch = task->batch(Split::kTest, std::array<int64_t, 1>{0});
  // The image of the last tenth, found again among all.
  const pathfinder::Images images(folder.path(), 32);
  std::vector<uint8_t> pixels(1024);
  int64_t found = 0;
  for (int64_t i = 0; i < 10; ++i) {
    images.read(i, pixels);
    const std::vector<int64_t> tokens(pixels.begin(), pixels.end());
    if (tokens != values<int64_t>(batch.tokens)) continue;
    ++found;
    EXPECT_EQ(batch.labels.item<int64_t>(), images.label(i));
  }
  EXPECT_EQ(found, 1);
  EXPECT_TRUE(batch.mask.equal(batch.tokens.ne(0)));
  EXPECT_EQ(task->class_name(0), "apart");
  EXPECT_EQ(task->class_name(1), "connected");
}

TEST(Pathfinder, PathXIsOf128) {
  const TestFolder folder;
  write(folder, 10, 128);
  const auto task = make_task("pathx", folder.path(), {{"mask", "all"}});
  EXPECT_EQ(task->max_length(), 16384);
  EXPECT_EQ(task->batch(Split::kDev, std::array<int64_t, 1>{0}).tokens.size(1), 16384);
  EXPECT_EQ(error_of([&] { make_task("pathfinder32", folder.path(), {})->size(Split::kTrain); }),
            folder / "images.npy" + ": is of 10 x 128 x 128, expected images of 32 x 32");
}

TEST(Pathfinder, SaysHowToPrepareAPublishedFolder) {
  const TestFolder folder;
  folder.write("metadata/0.npy", "imgs/0 sample_0.png 0 1 1.0\n");
  const std::string path = folder.path().string();
  EXPECT_EQ(error_of([&] { make_task("pathfinder32", path, {})->size(Split::kTrain); }),
            path + ": holds PNG images, expected prepared ones; yoso data pathfinder --from " +
                path + " makes them");
}

TEST(Pathfinder, NeedsAnExampleForEverySplit) {
  const TestFolder folder;
  write(folder, 1);
  const auto task = make_task("pathfinder32", folder.path(), {});
  EXPECT_EQ(error_of([&] { task->size(Split::kDev); }),
            "pathfinder32: has no examples for dev, expected 1 or more");
}

}  // namespace
}  // namespace yoso
