// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/pathfinder_files.h"

#include <gmock/gmock.h>

#include <array>

#include "yoso/core/file.h"
#include "yoso/core/testing.h"
#include "yoso/cpu/parallel.h"
#include "yoso/tasks/image_codecs.h"

namespace yoso::pathfinder {
namespace {

using testing::Each;
using testing::HasSubstr;

const Progress kSilent = [](int64_t, int64_t) {};

TEST(PathfinderFiles, ReadsTheImagesThatItGenerates) {
  const TestFolder folder;
  const Settings settings{.difficulty = Difficulty::kEasy, .seed = 2};
  int64_t shown = 0;
  write_generated(settings, 300, folder / "new/a", [&](int64_t done, int64_t) { shown = done; });
  EXPECT_EQ(shown, 300);
  const Images images(folder / "new/a", 32);
  ASSERT_EQ(images.size(), 300);
  const Generator generator(settings);
  for (const int64_t i : {0, 150, 299}) {
    const Drawing drawing = generator.draw(static_cast<uint64_t>(i));
    std::vector<uint8_t> pixels(32 * 32);
    images.read(i, pixels);
    EXPECT_EQ(pixels, drawing.pixels) << i;
    EXPECT_EQ(images.label(i), drawing.label) << i;
  }
}

TEST(PathfinderFiles, GeneratesTheSameBytesOnAnyNumberOfThreads) {
  const TestFolder folder;
  const int64_t before = cpu::num_threads();
  for (const int64_t threads : {1, 3}) {
    cpu::set_num_threads(threads);
    write_generated({.difficulty = Difficulty::kEasy}, 70, folder / join(threads), kSilent);
  }
  cpu::set_num_threads(before);
  for (const std::string name : {"/images.npy", "/labels.npy"})
    EXPECT_EQ(folder.read("1" + name), folder.read("3" + name));
}

TEST(PathfinderFiles, FindsPreparedFilesThatAreDamaged) {
  const TestFolder folder;
  write_generated({.difficulty = Difficulty::kEasy}, 3, folder / "a", kSilent);
  const auto message = [&](int64_t side = 32) {
    return error_of([&] { Images(folder / "a", side); });
  };
  EXPECT_EQ(message(), "no error");
  EXPECT_EQ(message(64),
            folder / "a/images.npy" + ": is of 3 x 32 x 32, expected images of 64 x 64");
  const std::string labels = folder.read("a/labels.npy"), images = folder.read("a/images.npy");
  folder.write("a/images.npy", images.substr(0, images.size() - 1));
  EXPECT_EQ(message(), folder / "a/images.npy" +
                           ": holds 3071 bytes of data, expected 3072 by its header; it is cut "
                           "short or damaged");
  folder.write("a/images.npy", images);
  folder.write("a/labels.npy", npy_header("|u1", std::array<int64_t, 1>{2}) + "ab");
  EXPECT_EQ(message(), folder / "a/labels.npy" + ": has 2 labels, expected 3, one an image");
  folder.write("a/labels.npy",
               npy_header("|u1", std::array<int64_t, 1>{3}) + std::string("\0\1\2", 3));
  EXPECT_EQ(message(), folder / "a/labels.npy" + ": label 2 is 2, expected 0 or 1");
  std::filesystem::remove(folder / "a/labels.npy");
  EXPECT_EQ(message(), folder / "a/labels.npy" + ": cannot open: No such file or directory");
}

constexpr const char* kRest = " 1.0 14 4 2 0.5 1 1\n";

// Image `i` is of brightness 10 * i.
void write_image(const TestFolder& folder, const std::string& name, int i) {
  std::filesystem::create_directories(std::filesystem::path(folder / name).parent_path());
  write_png(folder / name, {32, 32, 1, std::vector<uint8_t>(1024, static_cast<uint8_t>(10 * i))});
}

TEST(PathfinderFiles, PreparesThePublishedFolders) {
  const TestFolder folder;
  // Text, the last row without its newline; numbers in the order of numbers.
  folder.write("metadata/10.npy", "imgs/10 sample_0.png 0 1 1.0 14 4 2 0.5 1 1");
  folder.write("metadata/2.npy", join("imgs/2 sample_0.png 0 0", kRest, "imgs/2 sample_1.png 1 1",
                                      kRest, "imgs/2 sample_2.png 2 1", kRest));
  write_image(folder, "imgs/2/sample_0.png", 1);
  folder.write("imgs/2/sample_1.png", "");  // as in the published set
  write_image(folder, "imgs/2/sample_2.png", 2);
  write_image(folder, "imgs/10/sample_0.png", 3);
  const Converted converted = write_published(folder.path(), 32, folder / "out", kSilent);
  EXPECT_EQ(converted.images, 3);
  EXPECT_EQ(converted.empty, 1);
  const Images images(folder / "out", 32);
  ASSERT_EQ(images.size(), 3);
  std::vector<uint8_t> pixels(1024);
  for (int64_t i = 0; i < 3; ++i) {
    images.read(i, pixels);
    EXPECT_THAT(pixels, Each(10 * (i + 1)));
    EXPECT_EQ(images.label(i), i > 0);
  }
}

// What np.save writes of an array of NumPy's texts of 32 letters.
std::string array_of(const std::vector<std::vector<std::string>>& rows) {
  std::string file =
      npy_header("<U32", std::array<int64_t, 2>{std::ssize(rows), std::ssize(rows[0])});
  for (const auto& row : rows) {
    for (const std::string& field : row) {
      std::string letters(128, '\0');
      for (size_t i = 0; i < field.size(); ++i) letters[4 * i] = field[i];
      file += letters;
    }
  }
  return file;
}

TEST(PathfinderFiles, ReadsMetadataThatIsAnArray) {
  const TestFolder folder;
  folder.write("metadata/0.npy", array_of({{"imgs/0", "sample_0.png", "0", "1", "1.0"},
                                           {"imgs/0", "sample_1.png", "1", "0", "1.0"}}));
  const auto rows = read_metadata(folder.path());
  ASSERT_EQ(rows.size(), 2);
  EXPECT_EQ(rows[0].image, folder.path() / "imgs/0/sample_0.png");
  EXPECT_EQ(rows[0].label, 1);
  EXPECT_EQ(rows[1].label, 0);
  folder.write("metadata/0.npy", array_of({{"imgs/0", "sample_0.png", "0", "7", "1.0"}}));
  EXPECT_EQ(error_of([&] { read_metadata(folder.path()); }),
            folder / "metadata/0.npy" + ":1: label is '7', expected 0 or 1");
}

TEST(PathfinderFiles, NamesTheBadRowOrImage) {
  const TestFolder folder;
  const auto message = [&] {
    return error_of([&] { write_published(folder.path(), 32, folder / "out", kSilent); });
  };
  EXPECT_EQ(message(), folder / "metadata" + ": cannot be read: No such file or directory");
  const std::string metadata = folder / "metadata/0.npy", image = folder / "imgs/0/sample_0.png";
  std::filesystem::create_directories(folder / "metadata");
  EXPECT_EQ(message(), folder / "metadata" + ": has no .npy files, expected 0.npy and so on");
  folder.write("metadata/0.npy", "");
  EXPECT_EQ(message(), metadata + ": has no rows, expected one an image");
  const std::string good = join("imgs/0 sample_0.png 0 1", kRest);
  folder.write("metadata/0.npy", good + "imgs/0 sample_1.png 1\n");
  EXPECT_EQ(message(),
            metadata + ":2: row has 3 fields, expected 4 or more: folder, file, number, label");
  folder.write("metadata/0.npy", good + "imgs/0 sample_1.png 1 yes 1.0\n");
  EXPECT_EQ(message(), metadata + ":2: label is 'yes', expected 0 or 1");
  folder.write("metadata/0.npy", good + "../0 sample_1.png 1 1 1.0\n");
  EXPECT_EQ(message(),
            metadata + ":2: image is '../0/sample_1.png', expected a file below the folder");
  folder.write("metadata/0.npy", good);
  EXPECT_EQ(message(), image + ": cannot be read: No such file or directory");
  folder.write("imgs/0/sample_0.png", "text");
  EXPECT_THAT(message(), HasSubstr(image + ": is no PNG image: "));
  folder.write("imgs/0/sample_0.png", "");
  EXPECT_EQ(message(), folder.path().string() + ": has only empty images");
  std::filesystem::remove(image);
  write_png(image, {2, 2, 1, {1, 2, 3, 4}});
  EXPECT_EQ(message(), image + ": is of 2 x 2 pixels in 1 colours, expected 32 x 32 in 1");
  EXPECT_FALSE(std::filesystem::exists(folder / "out/images.npy"));
}

TEST(PathfinderFiles, TwoProcessesDoNotWriteOneFolder) {
  const TestFolder folder;
  const FolderLock lock(folder.path().string());
  EXPECT_THAT(error_of([&] {
                write_generated({.difficulty = Difficulty::kEasy}, 3, folder.path(), kSilent);
              }),
              HasSubstr(": is in use by another process"));
}

TEST(PathfinderFiles, ASheetFramesTheImagesOfLabel1) {
  const TestFolder folder;
  const std::vector<Drawing> drawings = {{std::vector<uint8_t>(1024, 7), 0},
                                         {std::vector<uint8_t>(1024, 8), 1},
                                         {std::vector<uint8_t>(1024, 9), 1}};
  write_sheet(folder / "a.png", drawings, 32, 2);
  const std::string file = folder.read("a.png");
  const Image sheet =
      decode_image({reinterpret_cast<const uint8_t*>(file.data()), file.size()}, "");
  EXPECT_EQ(sheet.width, 2 * 68);
  EXPECT_EQ(sheet.height, 2 * 68);
  const auto at = [&](int64_t y, int64_t x) {
    return sheet.pixels[static_cast<size_t>(y * sheet.width + x)];
  };
  EXPECT_EQ(at(2, 2), 7);
  EXPECT_EQ(at(65, 65), 7);
  EXPECT_EQ(at(1, 1), 96);
  EXPECT_EQ(at(2, 70), 8);
  EXPECT_EQ(at(1, 69), 255);
  EXPECT_EQ(at(100, 33), 9);
  EXPECT_EQ(at(100, 100), 96);
}

}  // namespace
}  // namespace yoso::pathfinder
