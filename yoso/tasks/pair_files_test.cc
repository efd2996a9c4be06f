// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/pair_files.h"

#include <gmock/gmock.h>

#include "yoso/core/testing.h"

namespace yoso {
namespace {

std::string text(const PairFile& file, int64_t i, size_t side) {
  const auto bytes = file.texts(i)[side];
  return {bytes.begin(), bytes.end()};
}

TEST(PairFiles, ReadsTheLinesOfTheLongRangeArena) {
  const TestFolder folder;
  folder.write("a.tsv", "1.0\tP1\tP2\tb'one'\t\"two\"\n" +
                            std::string("0\t3\t4\t\t\0\xff\r\n", 11) + "0.0\t5\t6\tx\t\n");
  const PairFile file(folder / "a.tsv");
  ASSERT_EQ(file.size(), 3);
  EXPECT_EQ(file.label(0), 1);
  EXPECT_EQ(file.label(1), 0);
  EXPECT_EQ(file.label(2), 0);
  EXPECT_EQ(text(file, 0, 0), "b'one'");
  EXPECT_EQ(text(file, 0, 1), "\"two\"");
  EXPECT_EQ(text(file, 1, 0), "");
  EXPECT_EQ(text(file, 1, 1), std::string("\0\xff", 2));
  EXPECT_EQ(text(file, 2, 0), "x");
  EXPECT_EQ(text(file, 2, 1), "");
}

TEST(PairFiles, NamesTheBadLine) {
  const TestFolder folder;
  const std::string path = folder / "a.tsv", good = "1\ta\tb\tc\td\n";
  const auto message = [&](const std::string& content) {
    folder.write("a.tsv", content);
    return error_of([&] { PairFile file(path); });
  };
  EXPECT_EQ(message(good), "no error");
  EXPECT_EQ(
      message(good + "1\ta\tb\tc\n" + good),
      path + ":2: line has 4 fields, expected 5: label, two ids, two texts; tabs between them");
  EXPECT_EQ(
      message(good + "1\ta\tb\tc\td\te\n"),
      path + ":2: line has 6 fields, expected 5: label, two ids, two texts; tabs between them");
  EXPECT_EQ(
      message("\n"),
      path + ":1: line has 1 fields, expected 5: label, two ids, two texts; tabs between them");
  EXPECT_EQ(message(good + "2\ta\tb\tc\td\n"),
            path + ":2: label is '2', expected 0, 1, 0.0 or 1.0");
  EXPECT_EQ(message(good + "1\ta\tb\tc\td"),
            path + ":2: line has no end, expected a newline; the file is cut short");
  EXPECT_EQ(message(""), path + ": has no pairs, expected 1 or more");
  std::filesystem::remove(path);
  EXPECT_EQ(error_of([&] { PairFile file(path); }),
            path + ": cannot open: No such file or directory");
}

}  // namespace
}  // namespace yoso
