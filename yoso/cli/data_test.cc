// The command data as a user types it, on tiny sizes.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "yoso/cli/command_testing.h"
#include "yoso/cli/commands.h"
#include "yoso/core/testing.h"

namespace yoso {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string run(const std::string& arguments) {
  return run_command({add_data_command}, "data listops " + arguments);
}

constexpr const char* kTiny = " --train 30 --dev 5 --test 4 --above-length 3 --below-length 20";

int64_t lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

TEST(DataCommand, WritesTheFilesOfListOps) {
  const TestFolder folder;
  const std::string out = folder / "new/folder";
  EXPECT_EQ(run("--out " + out + kTiny),
            out + ": 30 examples in basic_train.tsv, 5 in basic_val.tsv, 4 in basic_test.tsv\n");
  EXPECT_EQ(lines(folder.read("new/folder/basic_train.tsv")), 31);
  EXPECT_EQ(lines(folder.read("new/folder/basic_val.tsv")), 6);
  EXPECT_EQ(lines(folder.read("new/folder/basic_test.tsv")), 5);
}

TEST(DataCommand, ObeysItsOptions) {
  const TestFolder folder;
  const auto content = [&](const std::string& options) {
    run("--out " + folder / "a" + kTiny + options);
    return folder.read("a/basic_train.tsv");
  };
  const std::string usual = content("");
  EXPECT_EQ(content(" --threads 1"), usual);
  EXPECT_EQ(content(" --preset small"), usual);
  EXPECT_NE(content(" --seed 1"), usual);
  EXPECT_NE(content(" --max-args 3"), usual);
  EXPECT_THAT(usual, HasSubstr("] ) )"));  // an operator inside another one
  EXPECT_THAT(content(" --max-depth 2"), testing::Not(HasSubstr("] ) )")));
}

TEST(DataCommand, RefusesBadOptions) {
  const TestFolder folder;
  const auto message = [&](const std::string& options) {
    return error_of([&] { run("--out " + folder / "a" + options); });
  };
  EXPECT_EQ(message(" --preset big"), "listops: preset is 'big', expected small or full");
  EXPECT_THAT(message(" --train 0"), StartsWith("listops: train is 0, expected 1 to "));
  EXPECT_THAT(message(" --threads 0"), HasSubstr("threads is 0, expected at least 1"));
  EXPECT_THROW(run(""), CLI::RequiredError);
  EXPECT_FALSE(std::filesystem::exists(folder / "a"));
}

}  // namespace
}  // namespace yoso
