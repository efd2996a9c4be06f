// SPDX-License-Identifier: Apache-2.0
#include "yoso/core/file.h"

#include <gmock/gmock.h>

#include <csignal>

#include "yoso/core/testing.h"

namespace yoso {
namespace {

void write(const std::string& path, std::string_view text) {
  FileWriter file(path);
  file.write(text);
  file.commit();
}

TEST(File, AKillHalfwayLeavesThePreviousFileAndNothingInTheWay) {
  const TestFolder folder;
  const std::string path = folder / "a";
  write(path, "first");
  const auto write_half = [&] {
    FileWriter file(path);
    file.write("sec");
    std::raise(SIGKILL);
  };
  EXPECT_EXIT(write_half(), testing::KilledBySignal(SIGKILL), "");
  EXPECT_EQ(read_text(path), "first");
  write(path, "third");
  EXPECT_EQ(read_text(path), "third");
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST(File, WithoutCommitNothingIsLeft) {
  const TestFolder folder;
  { FileWriter(folder / "a").write("half"); }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(File, FailuresAreNamed) {
  const TestFolder folder;
  EXPECT_EQ(error_of([] { FileAppender("/dev/full").write("x"); }),
            "/dev/full: cannot write: No space left on device");
  const std::string path = folder / "none/a";
  EXPECT_EQ(error_of([&] { FileWriter{path}; }), path + ": cannot open: No such file or directory");
  EXPECT_EQ(error_of([&] { FileWriter{folder.path()}; }),
            folder.path().string() + ": is a folder, expected a file to write");
  EXPECT_EQ(error_of([&] { read_text(path); }), path + ": cannot open: No such file or directory");
  EXPECT_EQ(error_of([&] { read_text(folder / ""); }),
            folder / "" + ": cannot read: Is a directory");
}

TEST(File, AFolderIsHeldByOne) {
  const TestFolder folder;
  const FolderLock lock(folder / "");
  EXPECT_THAT(error_of([&] { FolderLock{folder / ""}; }),
              testing::HasSubstr("is in use by another process"));
}

}  // namespace
}  // namespace yoso
