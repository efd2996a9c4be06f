// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/file.h"

#include <gmock/gmock.h>

#include <csignal>
#include <filesystem>

#include "yoso/core/check.h"

namespace yoso {
namespace {

class FileTest : public testing::Test {
 protected:
  FileTest()
      : path_(testing::TempDir() + "yoso_file_test_" +
              testing::UnitTest::GetInstance()->current_test_info()->name()) {}
  ~FileTest() override {
    std::filesystem::remove(path_);
    std::filesystem::remove(path_ + ".tmp");
  }

  void write(std::string_view text) {
    FileWriter file(path_);
    file.write(text);
    file.commit();
  }

  std::string path_;
};

TEST_F(FileTest, AKillHalfwayLeavesThePreviousFileAndNothingInTheWay) {
  write("first");
  const auto write_half = [&] {
    FileWriter file(path_);
    file.write("sec");
    std::raise(SIGKILL);
  };
  EXPECT_EXIT(write_half(), testing::KilledBySignal(SIGKILL), "");
  EXPECT_EQ(read_text(path_), "first");
  write("third");
  EXPECT_EQ(read_text(path_), "third");
  EXPECT_FALSE(std::filesystem::exists(path_ + ".tmp"));
}

TEST_F(FileTest, WithoutCommitNothingIsLeft) {
  { FileWriter(path_).write("half"); }
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_FALSE(std::filesystem::exists(path_ + ".tmp"));
}

TEST_F(FileTest, AFullDeviceIsNamed) {
  try {
    FileAppender("/dev/full").write("x");
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "/dev/full: cannot write: No space left on device");
  }
}

}  // namespace
}  // namespace yoso
