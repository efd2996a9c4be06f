// The command lra as a user types it, with the recipes of the repository made tiny.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <CLI/CLI.hpp>
#include <cmath>

#include "yoso/cli/command_testing.h"
#include "yoso/cli/commands.h"
#include "yoso/cli/lra_methods.h"
#include "yoso/cli/lra_results.h"
#include "yoso/core/file.h"
#include "yoso/core/testing.h"
#include "yoso/tasks/listops_files.h"
#include "yoso/tasks/task.h"
#include "yoso/train/evaluate.h"
#include "yoso/train/recipe.h"

namespace yoso {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string run(const std::string& arguments) {
  return run_command({add_lra_command}, "lra " + arguments);
}

TEST(Lra, EveryRecipeFitsItsTask) {
  for (const auto& [name, steps] : lra::kTasks) {
    const std::string task = name;
    EXPECT_EQ(read_recipe(YOSO_RECIPES "/lra/" + task + ".toml").train.steps, steps);
    for (const std::string ending : {".toml", "_quick.toml"}) {
      const Recipe recipe = read_recipe(YOSO_RECIPES "/lra/" + task + ending);
      EXPECT_EQ(recipe.task.name, task);
      EXPECT_EQ(recipe.task.data, "data/lra/" + task);
      TaskOptions options = recipe.task.options;
      if (task == "text") options["classes"] = "neg,pos";  // else learned from the data
      const auto made = make_task(task, "/absent", options);
      EXPECT_NO_THROW(resolve(recipe.model, *made)) << task << ending;
      EXPECT_EQ(recipe.model.encoder.layers, 2);
      EXPECT_EQ(recipe.model.encoder.hidden, 64);
    }
  }
}

TEST(Lra, EveryMethodFitsTheRecipes) {
  for (const lra::Method& method : lra::chosen_methods({})) {
    const Recipe recipe = read_recipe(YOSO_RECIPES "/lra/image.toml", method.settings);
    const nn::AttentionConfig& attention = recipe.model.encoder.attention;
    EXPECT_EQ(attention.kind, method.name.starts_with("yoso") ? "yoso" : method.name);
    EXPECT_EQ(attention.yoso.gradient == Gradient::kTrue, method.name == "yoso_true_16");
    EXPECT_EQ(attention.yoso.mode == Mode::kExpected, method.name == "yoso_expected");
    EXPECT_EQ(attention.conv_width, method.name == "yoso_conv_16" ? 33 : 0);
  }
}

class LraRunTest : public testing::Test {
 protected:
  LraRunTest() {
    listops::write_files(
        folder_ / "listops",
        {.trees = {.above_length = 3, .below_length = 30}, .train = 20, .dev = 4, .test = 4},
        [](int64_t) {});
  }
  std::string command(const std::string& rest) const {
    return "run --recipes " YOSO_RECIPES "/lra --preset quick --tasks listops --out " +
           folder_ / "runs" + " --device cpu --set task.data=" + folder_ / "listops" +
           " --set train.steps=2 --set train.evaluate_every=1 --set train.threads=1 "
           "--set model.hidden=16 " +
           rest;
  }
  const TestFolder folder_;
};

TEST_F(LraRunTest, RunsMethodsAndSeedsOnceAndReportsThem) {
  const std::string out = folder_ / "runs";
  EXPECT_EQ(run(command("--methods none,yoso_16")),
            out + ": 2 runs done, 0 were before, 0 are another process's\n");
  EXPECT_EQ(run(command("--methods none,yoso_16 --seeds 0,3")),
            out + ": 2 runs done, 2 were before, 0 are another process's\n");
  EXPECT_THAT(folder_.read("runs/listops/yoso_16/3/recipe.toml"),
              testing::AllOf(HasSubstr("num_hashes = 16"), HasSubstr("seed = 3")));
  const auto cells = lra::read_results(out);
  ASSERT_EQ(cells.size(), 2);
  for (const auto& cell : cells) {
    EXPECT_EQ(cell.accuracies.size(), 2);
    EXPECT_EQ(cell.name(), cell.method + ", 1/2,500: 2 steps");
    EXPECT_THAT(cell.device, testing::EndsWith(" cores"));
    EXPECT_GT(cell.examples_per_s, 0);
    EXPECT_TRUE(std::isfinite(cell.attention_seconds));
  }
  EXPECT_THAT(run("report --runs " + out), StartsWith("### Test accuracy, %\n\n| method |"));
  run("report --runs " + out + " --html " + folder_ / "a.html" + " --json " + folder_ / "a.json");
  EXPECT_THAT(folder_.read("a.html"), StartsWith("<!doctype html>"));
  EXPECT_THAT(folder_.read("a.json"), HasSubstr("\"method\": \"none\""));
}

TEST_F(LraRunTest, ShortensStepsAndWarmUpAlike) {
  run(command("--methods none --shorten 2 --set train.steps=4 --set train.warmup_steps=2"));
  EXPECT_THAT(folder_.read("runs/listops/none/0/recipe.toml"),
              testing::AllOf(HasSubstr("\nsteps = 2\n"), HasSubstr("\nwarmup_steps = 1\n")));
}

TEST_F(LraRunTest, NeverGoesOnWithARunOfOtherTraining) {
  run(command("--methods none"));
  for (const std::string other : {"train.steps=3", "train.mixed_precision=bfloat16"})
    EXPECT_THAT(error_of([&] { run(command("--methods none --set " + other)); }),
                HasSubstr("last.safetensors: is of a run with another [train] (2 steps), expected "
                          "that of this command ("));
  EXPECT_THAT(run(command("--methods none --set train.threads=2")), HasSubstr("1 were before"));
}

TEST_F(LraRunTest, LeavesARunToTheProcessThatWorksOnIt) {
  std::filesystem::create_directories(folder_ / "runs/listops/none/0");
  const FolderLock lock(folder_ / "runs/listops/none/0");
  EXPECT_EQ(run(command("--methods none,yoso_16")),
            folder_ / "runs" + ": 1 runs done, 0 were before, 1 are another process's\n");
}

TEST_F(LraRunTest, BadDataIsFoundBeforeTraining) {
  const std::string test = folder_ / "listops/basic_test.tsv",
                    good = folder_.read("listops/basic_test.tsv");
  const auto refused = [&](const std::string& content, const std::string& expected) {
    folder_.write("listops/basic_test.tsv", content);
    EXPECT_THAT(
        error_of([&] { run(command("--methods none")); }),
        StartsWith("lra: 1 runs failed, the first: listops none seed 0: " + test + expected));
    EXPECT_FALSE(std::filesystem::exists(folder_ / "runs/listops/none/0/run.jsonl"));
  };
  refused(good.substr(0, good.size() - 4), ":5: ");  // the last of four after the heads
  refused(good + "[SUM 1 2 ]\t3\n", ":6: word is '[SUM'");
  std::filesystem::remove(test);
  EXPECT_THAT(error_of([&] { run(command("--methods none")); }),
              HasSubstr(test + ": cannot open: No such file or directory"));
}

TEST_F(LraRunTest, OneFailureDoesNotStopTheOthers) {
  EXPECT_THAT(error_of([&] {
                run(command("--methods yoso_16,none --set model.attention.yoso.code_bits=99"));
              }),
              StartsWith("lra: 1 runs failed, the first: listops yoso_16 seed 0: "));
  const auto cells = lra::read_results(folder_ / "runs");
  ASSERT_EQ(cells.size(), 2);
  EXPECT_EQ(cells[0].method, "none");
  EXPECT_EQ(cells[0].accuracies.size(), 1);
  EXPECT_EQ(cells[1].unfinished, 1);
}

TEST_F(LraRunTest, AFolderThatCannotBeMadeDoesNotStopTheOthers) {
  folder_.write("runs/listops/none", "a file");
  EXPECT_THAT(
      error_of([&] { run(command("--methods none,yoso_16")); }),
      StartsWith("lra: 1 runs failed, the first: listops none seed 0: " +
                 (folder_ / "runs/listops/none/0") + ": cannot make the folder: Not a directory"));
  EXPECT_EQ(lra::read_results(folder_ / "runs").size(), 1);
}

TEST_F(LraRunTest, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(error_of([&] { run(command("--methods yoso_64")); }),
              StartsWith("lra: method is 'yoso_64', expected one of yoso_32, yoso_16, "));
  EXPECT_THROW(run("run --tasks chess"), CLI::ValidationError);
  EXPECT_THROW(run("run --preset small"), CLI::ValidationError);
  EXPECT_THAT(error_of([&] { run("run --recipes " + folder_ / "none"); }),
              HasSubstr("none/listops.toml: cannot open"));
}

}  // namespace
}  // namespace yoso
