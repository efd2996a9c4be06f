// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/listops_files.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <csignal>
#include <sstream>

#include "yoso/core/testing.h"
#include "yoso/cpu/parallel.h"
#include "yoso/tasks/lines.h"
#include "yoso/tasks/listops_language.h"

namespace yoso::listops {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

Examples read(const std::string& content, int64_t max_length = 2000) {
  std::istringstream in(content);
  return read_file(in, "a.tsv", max_length);
}

std::string message(const std::string& content) {
  return error_of([&] { read(content); });
}

void quiet(int64_t) {}

FileSettings few() {
  return {.trees = {.above_length = 5, .below_length = 60}, .train = 300, .dev = 20, .test = 10};
}

TEST(ListOpsFiles, ReadsExpressionsAndValues) {
  const Examples examples = read("Source\tTarget\r\n( ( ( [MAX 4 ) 5 ) ] )\t5\r\n3\t3\r\n");
  ASSERT_EQ(examples.size(), 2);
  EXPECT_THAT(examples.symbols(0), ElementsAre(kMax, 4, 5, kClose));
  EXPECT_EQ(examples.label(0), 5);
  EXPECT_THAT(examples.symbols(1), ElementsAre(3));
  EXPECT_EQ(examples.label(1), 3);
}

TEST(ListOpsFiles, LineEndsMakeNoDifference) {
  for (const char* content : {"Source\tTarget\n[SM 1 2 ]\t3\n4\t4\n",          // LF
                              "Source\tTarget\r\n[SM 1 2 ]\t3\r\n4\t4\r\n",    // CR LF
                              "Source\tTarget\n[SM 1 2 ]\t3\n4\t4",            // no final newline
                              "Source\tTarget\n\n[SM 1 2 ]\t3\n\r\n4\t4\n\n",  // empty lines
                              "\xef\xbb\xbfSource\tTarget\n[SM 1 2 ]\t3\n4\t4\n"}) {
    const Examples examples = read(content);
    ASSERT_EQ(examples.size(), 2) << in_quotes(content);
    EXPECT_THAT(examples.symbols(0), ElementsAre(kSm, 1, 2, kClose));
    EXPECT_EQ(examples.label(1), 4);
  }
}

TEST(ListOpsFiles, CutsLongExpressions) {
  const std::string content = "Source\tTarget\n[MAX 1 2 3 4 5 6 ]\t6\n[MIN 1 2 ]\t1\n";
  const Examples examples = read(content, 4);
  EXPECT_THAT(examples.symbols(0), ElementsAre(kMax, 1, 2, 3));
  EXPECT_THAT(examples.symbols(1), ElementsAre(kMin, 1, 2, kClose));
}

TEST(ListOpsFiles, ReadsVeryLongLines) {
  std::string content = "Source\tTarget\n[MAX";
  for (int64_t i = 0; i < 1'000'000; ++i) content += " 7";
  const Examples examples = read(content + " ]\t7\n");
  ASSERT_EQ(examples.size(), 1);
  EXPECT_EQ(examples.symbols(0).size(), 2000);
}

TEST(ListOpsFiles, AFileWithoutRowsHasNoExamples) {
  EXPECT_EQ(read("").size(), 0);
  EXPECT_EQ(read("Source\tTarget\r\n").size(), 0);
}

TEST(ListOpsFiles, NamesTheBadLine) {
  EXPECT_EQ(message("[SM 1 2 ]\t3\n"),
            "a.tsv:1: header is '[SM 1 2 ]\\x093', expected 'Source', a tab and 'Target'");
  const std::string good = "Source\tTarget\r\n[SM 1 2 ]\t3\r\n";
  EXPECT_EQ(message(good + "[SM 1 2 ] 3\r\n"),
            "a.tsv:3: line has no tab, expected an expression, a tab and its value");
  EXPECT_EQ(message(good + "[SM 1 2 ]\t12\r\n"), "a.tsv:3: value is '12', expected a digit");
  EXPECT_EQ(message(good + "[SM 1 2 ]\t\r\n"), "a.tsv:3: value is '', expected a digit");
  EXPECT_THAT(message(good + "[SUM 1 2 ]\t3\r\n"), StartsWith("a.tsv:3: word is '[SUM'"));
  EXPECT_THAT(message(good + "\n\n[SM 1 22 ]\t3\r\n"), StartsWith("a.tsv:5: word is '22'"));
  EXPECT_THAT(message(good + "( )\t3\r\n"), StartsWith("a.tsv:3: expression is empty"));
  EXPECT_THAT(message(good + std::string("1\0\t3\n", 5)), HasSubstr("a.tsv:3: word is '1\\x00'"));
}

TEST(ListOpsFiles, WritesWhatItReads) {
  const TestFolder folder;
  const FileSettings settings = few();
  write_files(folder.path() / "new" / "folder", settings, quiet);
  std::vector<std::vector<uint8_t>> expected;
  generate(settings.trees, settings.total(),
           [&](auto expression) { expected.emplace_back(expression.begin(), expression.end()); });

  // Test first, so that the size of train does not change it.
  size_t next = 0;
  for (const auto& [name, count] : {std::pair{kTestFile, settings.test},
                                    {kDevFile, settings.dev},
                                    {kTrainFile, settings.train}}) {
    std::ifstream in(folder.path() / "new" / "folder" / name, std::ios::binary);
    const Examples examples = read_file(in, name, 2000);
    ASSERT_EQ(examples.size(), count) << name;
    for (int64_t i = 0; i < count; ++i, ++next) {
      EXPECT_THAT(examples.symbols(i), testing::ElementsAreArray(expected[next]));
      EXPECT_EQ(examples.label(i), evaluate(expected[next]));
    }
  }
}

TEST(ListOpsFiles, WritesThePublicForm) {
  const TestFolder folder;
  write_files(folder.path(), few(), quiet);
  const std::string content = folder.read(kDevFile);
  EXPECT_THAT(content, StartsWith("Source\tTarget\r\n( ( ( "));
  EXPECT_THAT(content, testing::EndsWith("\r\n"));
  EXPECT_EQ(std::count(content.begin(), content.end(), '\n'), 21);
  EXPECT_EQ(std::count(content.begin(), content.end(), '('),
            std::count(content.begin(), content.end(), ')'));
}

TEST(ListOpsFiles, WritesTheSameBytesForAnyNumberOfThreads) {
  const TestFolder folder;
  const int64_t before = cpu::num_threads();
  for (const int64_t threads : {1, 2, 5}) {
    cpu::set_num_threads(threads);
    write_files(folder.path() / std::to_string(threads), few(), quiet);
  }
  cpu::set_num_threads(before);
  for (const std::string name : {kTrainFile, kDevFile, kTestFile}) {
    EXPECT_EQ(folder.read("2/" + name), folder.read("1/" + name));
    EXPECT_EQ(folder.read("5/" + name), folder.read("1/" + name));
  }
}

TEST(ListOpsFiles, ReportsProgress) {
  const TestFolder folder;
  int64_t calls = 0;
  write_files(folder.path(), few(), [&](int64_t written) { EXPECT_EQ(written, ++calls); });
  EXPECT_EQ(calls, 330);
}

TEST(ListOpsFiles, AFullDiskLeavesNothing) {
  const TestFolder folder;
  folder.write(kDevFile, "before");
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit small{10'000, limit.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);  // so that writing fails as on a full disk
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string text = error_of([&] { write_files(folder.path(), few(), quiet); });
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, handler);

  EXPECT_EQ(text, folder / kTrainFile + ": cannot write: File too large");
  EXPECT_EQ(folder.read(kDevFile), "before");
  const std::filesystem::directory_iterator entries(folder.path());
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);
}

TEST(ListOpsFiles, SaysWhyAFolderCannotBeMade) {
  const TestFolder folder;
  folder.write("file", "");
  const auto write = [&] { write_files(folder.path() / "file" / "sub", few(), quiet); };
  EXPECT_THAT(error_of(write), HasSubstr("file/sub: cannot make the folder: Not a directory"));
}

TEST(ListOpsFiles, RefusesSettingsOutOfRange) {
  const TestFolder folder;
  FileSettings settings = few();
  settings.dev = 0;
  EXPECT_EQ(error_of([&] { write_files(folder.path() / "new", settings, quiet); }),
            "listops: dev is 0, expected 1 to 100000000");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "new"));
}

TEST(ListOpsFiles, KnowsTwoPresets) {
  EXPECT_EQ(preset("full").total(), 100'000);
  EXPECT_LT(preset("small").total(), 50'000);
  EXPECT_EQ(error_of([] { preset("big"); }), "listops: preset is 'big', expected small or full");
}

}  // namespace
}  // namespace yoso::listops
