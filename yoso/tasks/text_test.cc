// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/text.h"

#include <gmock/gmock.h>

#include <set>

#include "yoso/core/testing.h"
#include "yoso/tasks/task_testing.h"

namespace yoso {
namespace {

using testing::ElementsAre;
using testing::Pair;

// `count` documents "0", "1", ... with labels a, b, a, ...
std::string numbered(int64_t count) {
  std::string content;
  for (int64_t i = 0; i < count; ++i) content += join(i % 2 ? "b" : "a", "\t", i, "\n");
  return content;
}

std::vector<std::string> documents(const Task& task, Split split) {
  std::vector<std::string> texts;
  for (int64_t i = 0; i < task.size(split); ++i) {
    texts.emplace_back();
    for (const int64_t token : values<int64_t>(task.batch(split, std::array{i}).tokens)) {
      texts.back() += static_cast<char>(token - 1);
    }
  }
  return texts;
}

TEST(Text, GivesPaddedBatchesOfBytes) {
  const TestFolder folder;
  folder.write("train.tsv", std::string("pos\t\0\xff", 6) + "z\nneg\t\npos\tlonger than six\n");
  const auto task = make_task("text", folder.path(), {{"max_length", "6"}, {"dev_fraction", "0"}});
  EXPECT_EQ(task->vocab_size(), 257);
  EXPECT_EQ(task->num_classes(), 2);
  EXPECT_EQ(task->max_length(), 6);
  EXPECT_EQ(task->class_name(0), "neg");
  EXPECT_EQ(task->class_name(1), "pos");

  const Batch batch = task->batch(Split::kTrain, std::array<int64_t, 3>{2, 1, 0});
  EXPECT_THAT(values<int64_t>(batch.tokens),
              ElementsAre('l' + 1, 'o' + 1, 'n' + 1, 'g' + 1, 'e' + 1, 'r' + 1,  //
                          0, 0, 0, 0, 0, 0,                                      //
                          1, 256, 'z' + 1, 0, 0, 0));
  EXPECT_THAT(values<bool>(batch.mask),
              ElementsAre(1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0));
  EXPECT_THAT(values<int64_t>(batch.labels), ElementsAre(1, 0, 1));
}

TEST(Text, ABatchOfEmptyDocumentsHasAColumn) {
  const TestFolder folder;
  folder.write("train.tsv", "a\t\nb\t\n");
  const auto task = make_task("text", folder.path(), {{"dev_fraction", "0"}});
  const Batch batch = task->batch(Split::kTrain, std::array<int64_t, 2>{0, 1});
  EXPECT_THAT(batch.tokens.sizes(), ElementsAre(2, 1));
  EXPECT_THAT(values<bool>(batch.mask), ElementsAre(0, 0));
}

TEST(Text, HoldsOutAShareOfTrain) {
  const TestFolder folder;
  folder.write("train.tsv", numbered(200));
  const auto split_of = [&](const TaskOptions& options) {
    const auto task = make_task("text", folder.path(), options);
    return std::pair{documents(*task, Split::kTrain), documents(*task, Split::kDev)};
  };
  const auto [train, dev] = split_of({});
  EXPECT_EQ(train.size(), 180);
  EXPECT_EQ(dev.size(), 20);
  std::set<std::string> all(train.begin(), train.end());
  all.insert(dev.begin(), dev.end());
  EXPECT_EQ(all.size(), 200);
  EXPECT_EQ(split_of({}), std::pair(train, dev));
  EXPECT_NE(split_of({{"seed", "1"}}).second, dev);
  EXPECT_EQ(split_of({{"dev_fraction", "0.25"}}).second.size(), 50);

  // Fewer training examples leave dev as it is, and come from all over train.
  const auto [few, same_dev] = split_of({{"max_train", "30"}});
  EXPECT_EQ(few.size(), 30);
  EXPECT_EQ(same_dev, dev);
  EXPECT_GT(std::stoi(few.back()), 150);
  for (const std::string& text : few) EXPECT_THAT(train, testing::Contains(text));
}

TEST(Text, UsesTheDevSplitThatIsThere) {
  const TestFolder folder;
  folder.write("train.tsv", numbered(20));
  folder.write("dev.jsonl", "{\"text\": \"x\", \"label\": \"b\"}\n");
  const auto task = make_task("text", folder.path(), {});
  EXPECT_EQ(task->size(Split::kTrain), 20);
  EXPECT_THAT(documents(*task, Split::kDev), ElementsAre("x"));
  EXPECT_THAT(values<int64_t>(task->batch(Split::kDev, std::array<int64_t, 1>{0}).labels),
              ElementsAre(1));
}

TEST(Text, ReadsATreeOfFolders) {
  const TestFolder folder;
  for (const std::string split : {"train", "test"}) {
    for (const std::string label : {"pos", "neg"}) {
      for (int64_t i = 0; i < 10; ++i) {
        folder.write(join(split, "/", label, "/", i, "_7.txt"), join(split, label, i));
      }
    }
  }
  folder.write("train/unsup/0_0.txt", "no class");
  const auto task = make_task("text", folder.path(), {});
  EXPECT_EQ(task->num_classes(), 2);
  EXPECT_EQ(task->size(Split::kTrain), 18);
  EXPECT_EQ(task->size(Split::kDev), 2);
  EXPECT_EQ(task->size(Split::kTest), 20);
  EXPECT_EQ(documents(*task, Split::kTest)[10], "testpos0");
}

TEST(Text, NeedsNoDataOnceTheClassesAreKnown) {
  TaskOptions options;
  {
    const TestFolder folder;
    folder.write("train.tsv", numbered(4));
    options = make_task("text", folder.path(), {{"max_length", "3"}})->resolved_options();
  }
  EXPECT_THAT(options, testing::IsSupersetOf({Pair("classes", "a,b"), Pair("max_length", "3")}));
  const auto task = make_task("text", "/absent", options);
  EXPECT_EQ(task->class_name(1), "b");
  EXPECT_THAT(task->encode("\xff\n tail"), ElementsAre(256, 11, 33));
  EXPECT_EQ(task->resolved_options(), options);
  EXPECT_EQ(error_of([&] { task->size(Split::kTest); }),
            "/absent: has no test split, expected a folder test, test.tsv or test.jsonl");
}

TEST(Text, SaysWhatIsWrongWithTheData) {
  const TestFolder folder;
  const auto message = [&](const TaskOptions& options) {
    return error_of([&] {
      const auto task = make_task("text", folder.path(), options);
      task->size(Split::kTrain);
      task->size(Split::kDev);
    });
  };
  const std::string path = folder.path().string();
  EXPECT_EQ(message({}),
            path + ": has no train split, expected a folder train, train.tsv or train.jsonl");
  folder.write("train.tsv", "");
  EXPECT_EQ(message({}), path + "/train.tsv: has 0 classes, expected 2 or more");
  folder.write("train.tsv", "a\tx\na\ty\n");
  EXPECT_EQ(message({}), path + "/train.tsv: has 1 classes, expected 2 or more");
  folder.write("train.tsv", "a\tx\na,b\ty\n");
  EXPECT_EQ(message({}), path + "/train.tsv: class is 'a,b', expected a name without a comma");
  folder.write("train.tsv", "a\tx\nb y\n");
  EXPECT_EQ(message({}),
            path + "/train.tsv:2: line has no tab, expected a label, a tab and the text");
  folder.write("train.tsv", "a\tx\nb\ty\n");
  EXPECT_EQ(message({}), path + "/train.tsv: has no examples for dev, expected 1 or more");
  EXPECT_EQ(message({{"dev_fraction", "0"}}),
            path + ": has no dev split, expected a folder dev, dev.tsv or dev.jsonl");
  EXPECT_EQ(message({{"classes", "b,c"}}),
            path + "/train.tsv:1: label is 'a', expected one of the classes: b, c");
}

TEST(Text, RefusesBadOptions) {
  const auto message = [](const TaskOptions& options) {
    return error_of([&] { make_task("text", "", options); });
  };
  EXPECT_EQ(
      message({{"length", "3"}}),
      "text: unknown option 'length', expected one of classes, dev_fraction, max_dev, max_length, "
      "max_test, max_train, seed");
  EXPECT_EQ(message({{"dev_fraction", "1"}}),
            "text: dev_fraction is '1', expected a number from 0 to 0.9");
  for (const std::string classes : {"a", "a,", "a,b,a", ",,"}) {
    EXPECT_EQ(message({{"classes", classes}}),
              "text: classes is '" + classes + "', expected 2 or more different names and commas");
  }
}

TEST(Text, GivesEqualBatchesToSeveralThreads) {
  const TestFolder folder;
  folder.write("train.tsv", numbered(200));
  expect_equal_batches_on_threads([&] { return make_task("text", folder.path(), {}); });
}

}  // namespace
}  // namespace yoso
