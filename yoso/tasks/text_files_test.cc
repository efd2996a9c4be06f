// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/text_files.h"

#include <gmock/gmock.h>

#include <sstream>

#include "yoso/core/testing.h"

namespace yoso {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing::StartsWith;

using Documents = std::vector<std::pair<std::string, std::string>>;

Documents tsv(const std::string& content) {
  Documents documents;
  std::istringstream in(content);
  read_documents_tsv(in, "a.tsv",
                     [&](auto label, auto text) { documents.emplace_back(label, text); });
  return documents;
}

Documents jsonl(const std::string& content) {
  Documents documents;
  std::istringstream in(content);
  read_documents_jsonl(in, "a.jsonl",
                       [&](auto label, auto text) { documents.emplace_back(label, text); });
  return documents;
}

std::string text_of(const Examples& examples, int64_t i) {
  const auto symbols = examples.symbols(i);
  return {symbols.begin(), symbols.end()};
}

TEST(TextFiles, ReadsTsv) {
  EXPECT_THAT(tsv("pos\tgood\nneg\tbad\tworse\n"),
              ElementsAre(Pair("pos", "good"), Pair("neg", "bad\tworse")));
  EXPECT_THAT(tsv("label\ttext\r\npos\tgood\r\n\r\nneg\t"),
              ElementsAre(Pair("pos", "good"), Pair("neg", "")));
  EXPECT_THAT(tsv("\xef\xbb\xbfpos\t\"a\"\n"), ElementsAre(Pair("pos", "\"a\"")));
  EXPECT_THAT(tsv(std::string("pos\ta\0b\n", 8)), ElementsAre(Pair("pos", std::string("a\0b", 3))));
  EXPECT_THAT(tsv(""), IsEmpty());
}

TEST(TextFiles, NamesTheBadLineOfTsv) {
  EXPECT_EQ(error_of([] { tsv("pos\tgood\nneg bad\n"); }),
            "a.tsv:2: line has no tab, expected a label, a tab and the text");
  EXPECT_EQ(error_of([] { tsv("pos\tgood\n\n\tbad\n"); }),
            "a.tsv:3: label is empty, expected the name of a class");
}

TEST(TextFiles, ReadsJsonLines) {
  EXPECT_THAT(jsonl("{\"text\": \"gr\\u00fcn\\n\\u0000\", \"label\": \"pos\"}\r\n\n"
                    "{\"label\": -3, \"id\": [1], \"text\": \"\"}"),
              ElementsAre(Pair("pos", std::string("gr\xc3\xbcn\n\0", 7)), Pair("-3", "")));
  EXPECT_THAT(jsonl(""), IsEmpty());
}

TEST(TextFiles, NamesTheBadLineOfJsonLines) {
  const std::string good = "{\"text\": \"\", \"label\": \"a\"}\n";
  const auto message = [&](std::string_view line) {
    return error_of([&] { jsonl(good + std::string(line) + "\n" + good); });
  };
  EXPECT_EQ(message("[\"a\"]"),
            "a.jsonl:2: line is '[\"a\"]', expected {\"text\": \"...\", \"label\": \"...\"}");
  EXPECT_THAT(message("{\"text\": \"a\""), StartsWith("a.jsonl:2: line is"));
  EXPECT_THAT(message("{\"text\": \"\xff\", \"label\": \"a\"}"), StartsWith("a.jsonl:2: line is"));
  EXPECT_THAT(message(std::string_view("{\0}", 3)), StartsWith("a.jsonl:2: line is '{\\x00}'"));
  EXPECT_EQ(message("{\"label\": \"a\"}"),
            "a.jsonl:2: document has no \"text\", expected a string");
  EXPECT_EQ(message("{\"text\": 3, \"label\": \"a\"}"),
            "a.jsonl:2: document has no \"text\", expected a string");
  EXPECT_EQ(message("{\"text\": \"\"}"),
            "a.jsonl:2: document has no \"label\", expected a string or an integer");
  EXPECT_EQ(message("{\"text\": \"\", \"label\": 0.5}"),
            "a.jsonl:2: \"label\" is '0.5', expected a string or an integer");
  EXPECT_EQ(message("{\"text\": \"\", \"label\": \"\"}"),
            "a.jsonl:2: \"label\" is empty, expected the name of a class");
  EXPECT_THAT(message(std::string(200'000, '[')), StartsWith("a.jsonl:2: line is '[[["));
}

TEST(TextFiles, ReadsATreeInTheOrderOfNames) {
  const TestFolder folder;
  folder.write("train/pos/10_7.txt", "third");
  folder.write("train/pos/9_8.txt", "fourth, without a newline\r\n");
  folder.write("train/neg/b.txt", std::string("a\0b", 3));
  folder.write("train/neg/a.txt", "");
  folder.write("train/neg/notes.md", "no document");
  folder.write("train/unsup/0_0.txt", "no class");
  folder.write("train/.git/0_0.txt", "no class");
  folder.write("train/urls_pos.txt", "no class");
  const auto path = find_documents(folder.path(), "train");
  EXPECT_EQ(path, folder.path() / "train");
  const auto classes = read_classes(path);
  EXPECT_THAT(classes, ElementsAre("neg", "pos"));
  const Examples examples = read_documents(path, classes, 6);
  ASSERT_EQ(examples.size(), 4);
  EXPECT_EQ(text_of(examples, 0), "");
  EXPECT_EQ(text_of(examples, 1), std::string("a\0b", 3));
  EXPECT_EQ(text_of(examples, 2), "third");
  EXPECT_EQ(text_of(examples, 3), "fourth");  // cut after 6 bytes
  EXPECT_EQ(examples.label(1), 0);
  EXPECT_EQ(examples.label(2), 1);
}

TEST(TextFiles, FindsEachFormAndRefusesTwo) {
  const TestFolder folder;
  EXPECT_EQ(find_documents(folder.path(), "dev"), "");
  EXPECT_EQ(find_documents(folder.path() / "absent", "dev"), "");
  folder.write("train.tsv", "b\tx\na\ty\nb\tz\n");
  folder.write("test.jsonl", "{\"text\": \"\", \"label\": 10}\n{\"text\": \"\", \"label\": 9}\n");
  EXPECT_EQ(find_documents(folder.path(), "train"), folder.path() / "train.tsv");
  EXPECT_EQ(find_documents(folder.path(), "test"), folder.path() / "test.jsonl");
  EXPECT_THAT(read_classes(folder.path() / "train.tsv"), ElementsAre("a", "b"));
  EXPECT_THAT(read_classes(folder.path() / "test.jsonl"), ElementsAre("10", "9"));
  folder.write("train.jsonl", "");
  EXPECT_EQ(error_of([&] { find_documents(folder.path(), "train"); }),
            folder.path().string() +
                ": split train is both train.tsv and train.jsonl, expected one of them");
}

TEST(TextFiles, RefusesALabelThatIsNoClass) {
  const TestFolder folder;
  folder.write("test.tsv", "a\tx\nc\ty\n");
  folder.write("test/c/1.txt", "x");
  const std::vector<std::string> classes = {"a", "b"};
  EXPECT_EQ(error_of([&] { read_documents(folder.path() / "test.tsv", classes, 9); }),
            folder / "test.tsv" + ":2: label is 'c', expected one of the classes: a, b");
  EXPECT_EQ(error_of([&] { read_documents(folder.path() / "test", classes, 9); }),
            folder / "test/c/1.txt" + ": label is 'c', expected one of the classes: a, b");
}

TEST(TextFiles, ATreeThatIsHalfUnpackedIsRefused) {
  const TestFolder folder;
  folder.write("test/pos/1.txt", "x");
  const auto message = [&] {
    return error_of([&] { read_documents(folder.path() / "test", {"neg", "pos"}, 9); });
  };
  EXPECT_EQ(message(), folder / "test/neg" + ": cannot be read: No such file or directory");
  std::filesystem::create_directories(folder / "test/neg");
  EXPECT_EQ(message(),
            folder / "test/neg" + ": has no .txt files, expected documents of the class");
  folder.write("test/neg/1.txt", "y");
  EXPECT_EQ(message(), "no error");
}

TEST(TextFiles, RefusesAClassThatIsNotUtf8) {
  const TestFolder folder;
  folder.write("train.tsv", "gr\xc3\xbcn\tx\nrot\ty\n");
  EXPECT_THAT(read_classes(folder.path() / "train.tsv"), ElementsAre("gr\xc3\xbcn", "rot"));
  folder.write("train.tsv", "gr\xfcn\tx\nrot\ty\n");
  EXPECT_EQ(error_of([&] { read_classes(folder.path() / "train.tsv"); }),
            folder / "train.tsv" + ": class is 'gr\xfcn', expected UTF-8");
}

TEST(TextFiles, SaysWhyAFileCannotBeRead) {
  const TestFolder folder;
  EXPECT_EQ(error_of([&] { read_classes(folder.path() / "train.tsv"); }),
            folder / "train.tsv" + ": cannot open: No such file or directory");
}

}  // namespace
}  // namespace yoso
