// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/cifar_files.h"

#include <gmock/gmock.h>

#include <set>

#include "yoso/core/testing.h"
#include "yoso/tasks/cifar_testing.h"
#include "yoso/tasks/image_codecs.h"

namespace yoso::cifar {
namespace {

using testing::Each;
using testing::HasSubstr;

TEST(CifarFiles, ReadsLabelsAndGreyPixels) {
  const TestFolder folder;
  std::string records = record(3, {255, 0, 0}) + record(9, {10, 10, 10});
  records[1 + 5] = 0;  // pixel 5 of the first record has no red
  folder.write("test_batch.bin", records);
  const Images images(folder.path(), kTestFiles);
  ASSERT_EQ(images.size(), 2);
  EXPECT_EQ(images.label(0), 3);
  EXPECT_EQ(images.label(1), 9);
  std::vector<uint8_t> pixels(kPixels);
  images.read(0, pixels);
  EXPECT_EQ(pixels[0], 76);
  EXPECT_EQ(pixels[5], 0);
  images.read(1, pixels);
  EXPECT_THAT(pixels, Each(10));
}

TEST(CifarFiles, CountsThroughTheFilesOfTrain) {
  const TestFolder folder;
  for (uint8_t file = 0; file < 5; ++file) {
    folder.write(kTrainFiles[file], record(file, {0, 0, 0}) + record(file + 5, {0, 0, 0}));
  }
  const Images images(folder.path(), kTrainFiles);
  ASSERT_EQ(images.size(), 10);
  for (int64_t i = 0; i < 10; ++i) EXPECT_EQ(images.label(i), i / 2 + i % 2 * 5);
}

TEST(CifarFiles, FindsFilesThatAreMissingOrCutShort) {
  const TestFolder folder;
  const auto message = [&] { return error_of([&] { Images(folder.path(), kTrainFiles); }); };
  EXPECT_EQ(message(), folder / "data_batch_1.bin" + ": cannot open: No such file or directory");
  for (const char* name : kTrainFiles) folder.write(name, record(1, {}) + record(2, {}));
  EXPECT_EQ(message(), "no error");
  folder.write("data_batch_4.bin", record(1, {}) + record(2, {}).substr(1));
  EXPECT_EQ(message(), folder / "data_batch_4.bin" +
                           ": has 6145 bytes, expected a multiple of 3073 (a label and 32 x 32 "
                           "pixels in three colours)");
  folder.write("data_batch_4.bin", record(1, {}));
  EXPECT_EQ(message(),
            folder / "data_batch_4.bin" + ": has 1 records, expected 2 as in data_batch_1.bin");
  folder.write("data_batch_4.bin", record(1, {}) + record(10, {}));
  EXPECT_EQ(message(), folder / "data_batch_4.bin" + ": label of record 1 is 10, expected 0 to 9");
  folder.write("data_batch_4.bin", "");
  EXPECT_THAT(message(), HasSubstr("data_batch_4.bin: has 0 bytes, expected a multiple of 3073"));
}

// An image of brightness `value` for every class, in train and test.
void write_folder(const TestFolder& folder) {
  for (const std::string split : {"train", "test"}) {
    for (const std::string name : kClasses) {
      std::filesystem::create_directories(folder / (split + "/" + name));
      const auto brightness = static_cast<uint8_t>(20 * name.size() + split.size());
      write_png(folder / (split + "/" + name + "/0000.png"),
                {32, 32, 1, std::vector<uint8_t>(kPixels, brightness)});
    }
  }
}

TEST(CifarFiles, WritesTheBinaryLayoutOfAFolderOfImages) {
  const TestFolder folder;
  write_folder(folder);
  int64_t calls = 0;
  const auto written = write_from_images(folder.path(), folder / "new/out", 0,
                                         [&](int64_t, int64_t total) { calls += total == 20; });
  EXPECT_EQ(written.train, 10);
  EXPECT_EQ(written.test, 10);
  EXPECT_EQ(calls, 20);
  const Images train(folder / "new/out", kTrainFiles), test(folder / "new/out", kTestFiles);
  std::set<int64_t> labels;
  std::vector<uint8_t> pixels(kPixels);
  for (int64_t i = 0; i < 10; ++i) {
    const std::string name = kClasses[static_cast<size_t>(train.label(i))];
    train.read(i, pixels);
    EXPECT_THAT(pixels, Each(20 * name.size() + 5));
    labels.insert(train.label(i));
  }
  EXPECT_EQ(labels.size(), 10);
  EXPECT_EQ(test.size(), 10);
  EXPECT_THAT(folder.read("new/out/batches.meta.txt"),
              testing::StartsWith("airplane\nautomobile\n"));
  // Another seed, another order.
  const std::string first = folder.read("new/out/test_batch.bin");
  write_from_images(folder.path(), folder / "b", 1, [](int64_t, int64_t) {});
  EXPECT_NE(folder.read("b/test_batch.bin"), first);
}

TEST(CifarFiles, WritesNothingOfAFolderThatIsNotWhole) {
  const TestFolder folder;
  write_folder(folder);
  const auto message = [&] {
    return error_of(
        [&] { write_from_images(folder.path(), folder / "out", 0, [](int64_t, int64_t) {}); });
  };
  const auto cat = folder / "train/cat/0000.png";
  write_png(cat, {32, 31, 1, std::vector<uint8_t>(32 * 31)});
  EXPECT_EQ(message(), cat + ": is of 32 x 31 pixels, expected 32 x 32");
  folder.write("train/cat/0000.png", "");
  EXPECT_EQ(message(), cat + ": is empty, expected a PNG or JPEG image");
  std::filesystem::remove(cat);
  EXPECT_EQ(message(), folder.path().string() +
                           ": has 9 images in train and 10 in test, expected 50000 and 10000, or "
                           "at least a multiple of 5 and 1");
  std::filesystem::remove(folder / "train/cat");
  EXPECT_EQ(message(), folder / "train/cat" + ": cannot be read: No such file or directory");
  std::filesystem::create_directories(folder / "train/cat");
  folder.write("train/plane/0000.png", "");
  EXPECT_THAT(message(), HasSubstr("plane: is no class of CIFAR-10, expected one of airplane, "));
  EXPECT_FALSE(std::filesystem::exists(folder / "out/test_batch.bin"));
}

}  // namespace
}  // namespace yoso::cifar
