// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/lra_results.h"

#include <gmock/gmock.h>

#include <cmath>

#include "yoso/cli/lra_published.h"
#include "yoso/cli/lra_report.h"
#include "yoso/cli/markup_testing.h"
#include "yoso/core/testing.h"

namespace yoso::lra {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// Steps of `step_seconds`, a quarter of a second of each waiting for the batch; after the third an
// evaluation of 100 examples in 20 s and a checkpoint in 30 s; the accuracy on test if there is
// one. All on 2026-11-25.
std::string log(double accuracy, double step_seconds = 2) {
  std::string text;
  double seconds = 0;
  for (int step = 1; step <= 5; ++step) {
    seconds += step_seconds;
    text += join("{\"step\": ", step, ", \"loss\": 1, \"seconds\": ", seconds,
                 ", \"peak_mib\": ", 100 + step, ", \"input_s\": 0.25, \"time\": 1795600000}\n");
    if (step != 3) continue;
    text += join("{\"step\": 3, \"split\": \"dev\", \"loss\": 1, \"accuracy\": 0.25, ",
                 "\"examples\": 100, \"seconds\": ", seconds + 20, "}\n");
    seconds += 50;
  }
  if (std::isfinite(accuracy))
    text += join("{\"step\": 5, \"split\": \"test\", \"loss\": 1, \"accuracy\": ", accuracy,
                 ", \"time\": 1795600060}\n");
  return text;
}

void write_run(const TestFolder& folder, const std::string& run, const std::string& kind,
               const std::string& train, const std::string& log) {
  folder.write(run + "/run.jsonl", log);
  folder.write(run + "/recipe.toml",
               "[model.attention]\nkind = \"" + kind + "\"\n[train]\n" + train);
}

void write_runs(const TestFolder& folder) {
  write_run(folder, "image/softmax/0", "softmax", "steps = 35000", log(0.375));
  write_run(folder, "image/softmax/1", "softmax", "steps = 35000\nseed = 1", log(0.385));
  write_run(folder, "image/softmax/2", "softmax", "steps = 35000\nseed = 2", log(NAN));
  write_run(folder, "pathx/yoso_32/0", "yoso", "steps = 20000", log(NAN));
  folder.write("pathx/none/notes.txt", "no run");
}

TEST(LraResults, GathersTheRunsOfEveryTaskAndMethod) {
  const TestFolder folder;
  write_runs(folder);
  const auto cells = read_results(folder.path());
  ASSERT_EQ(cells.size(), 2);
  EXPECT_EQ(cells[0].task, "image");
  EXPECT_EQ(cells[0].method, "softmax");
  EXPECT_THAT(cells[0].seeds, ElementsAre("0", "1"));
  EXPECT_NEAR(cells[0].mean(), 38, 1e-9);
  EXPECT_NEAR(cells[0].deviation(), std::sqrt(0.5), 1e-9);
  EXPECT_EQ(cells[0].unfinished, 1);
  EXPECT_EQ(cells[0].step_seconds, 2);
  EXPECT_EQ(cells[0].input_seconds, 0.25);
  EXPECT_EQ(cells[0].examples_per_s, 5);
  EXPECT_EQ(cells[0].peak_mib, 105);
  EXPECT_EQ(cells[0].date, "2026-11-25");
  EXPECT_EQ(cells[0].device, "");
  EXPECT_FALSE(cells[0].is_partial());
  EXPECT_EQ(cells[1].method, "yoso_32");
  EXPECT_TRUE(std::isnan(cells[1].mean()));
  EXPECT_TRUE(std::isnan(cells[1].deviation()));
}

TEST(LraResults, AnOldLogLeavesDashes) {
  const TestFolder folder;
  write_run(
      folder, "text/none/0", "none", "steps = 20000",
      "{\"step\": 1, \"loss\": 1, \"seconds\": 2}\n{\"step\": 2, \"loss\": 1, \"seconds\": 4}\n");
  const auto cells = read_results(folder.path());
  EXPECT_THAT(markdown(cells),
              HasSubstr("| text | none | float32 | 20,000 | unfinished | 2,000 | 0 | - | "
                        "- | - | - | - | - |"));
  EXPECT_TRUE(json(cells)[0]["input_seconds"].is_null());
}

TEST(LraResults, PartialRunsAreNamedAndNeverInTheMeanOfFullOnes) {
  const TestFolder folder;
  write_runs(folder);
  write_run(folder, "image/softmax/3", "softmax", "steps = 4375\nseed = 3", log(0.2));
  const auto cells = read_results(folder.path());
  ASSERT_EQ(cells.size(), 3);
  EXPECT_NEAR(cells[0].mean(), 38, 1e-9);
  EXPECT_EQ(cells[1].name(), "softmax, 1/8: 4,375 steps");
  EXPECT_THAT(cells[1].accuracies, ElementsAre(20));

  const std::string text = markdown(cells), html = page(cells, "");
  EXPECT_THAT(text, HasSubstr(" | 38.00 ± 0.71 (2); 1/8: 4,375 steps: 20.00 (1) [38.2] | "));
  EXPECT_THAT(text, HasSubstr("| image | softmax | float32 | 1/8: 4,375 steps | 20.00 (1) |"));
  EXPECT_THAT(html, HasSubstr("<td>1/8: 4,375 steps</td><td>20.00 (1)</td>"));
  EXPECT_THAT(html, HasSubstr("softmax, 1/8: 4,375 steps: 3, 25<"));  // in a chart
  const nlohmann::json numbers = json(cells);
  EXPECT_EQ(numbers[0]["partial"], false);
  EXPECT_EQ(numbers[1]["partial"], true);
  EXPECT_EQ(numbers[1]["steps"], 4375);
  EXPECT_EQ(numbers[1]["shortened"], 8);
}

TEST(LraResults, AnotherPrecisionIsAnotherRow) {
  const TestFolder folder;
  write_runs(folder);
  write_run(folder, "image/softmax/3", "softmax",
            "steps = 35000\nseed = 3\nmixed_precision = \"bfloat16\"", log(0.2));
  EXPECT_THAT(markdown(read_results(folder.path())),
              HasSubstr("\n| softmax, bfloat16 | not run [37.1]"));
}

TEST(LraResults, RunsOfOtherSettingsHaveNoMean) {
  const TestFolder folder;
  write_runs(folder);
  write_run(folder, "image/softmax/3", "softmax", "steps = 35000\nseed = 3\nbatch_size = 7",
            log(0.2));
  EXPECT_EQ(error_of([&] { read_results(folder.path()); }),
            folder / "image/softmax/3/recipe.toml" +
                ": is of other settings than seed 0, expected the same, for a mean over both");
}

TEST(LraResults, AStepIsSplitByOneWithoutAttention) {
  const TestFolder folder;
  write_runs(folder);
  write_run(folder, "image/none/0", "none", "steps = 350", log(0.2, 1.5));
  write_run(folder, "pathx/none/0", "none", "steps = 350\nbatch_size = 7", log(0.2, 1.5));
  const auto same = [&] {
    const auto cells = read_results(folder.path());
    EXPECT_EQ(cells[1].method, "softmax");
    EXPECT_EQ(cells[3].method, "yoso_32");
    EXPECT_TRUE(std::isnan(cells[3].attention_seconds));  // of another batch size
    return cells[1];
  };
  EXPECT_EQ(same().attention_seconds, 0.5);
  EXPECT_EQ(same().rest_seconds(), 1.25);
  EXPECT_EQ(read_results(folder.path())[0].attention_seconds, 0);  // of none itself
  write_run(folder, "image/none/1", "none", "steps = 3500", log(0.2, 1));
  EXPECT_EQ(read_results(folder.path())[2].attention_seconds, 1);  // the longer run counts
  std::filesystem::remove_all(folder / "image/none/1");
  EXPECT_THAT(
      markdown(read_results(folder.path())),
      HasSubstr("38.00 ± 0.71 (2) | 2,000 | 500 | 1,250 | 250 | 5 | 105 | - | 2026-11-25 |"));
  write_origin(folder.path() / "image/softmax/0", "A GPU", "yoso lra run");
  EXPECT_TRUE(std::isnan(same().attention_seconds));  // on another device
  write_origin(folder.path() / "image/none/0", "A GPU", "yoso lra run");
  EXPECT_EQ(same().attention_seconds, 0.5);
}

TEST(LraResults, NamesEveryDeviceAndTheCommand) {
  const TestFolder folder;
  write_runs(folder);
  const auto run = folder.path() / "image/softmax/0";
  for (const std::string device : {"A GPU", "A GPU", "a <CPU>", "a <CPU>"})
    write_origin(run, device, "yoso lra run --seeds 0");
  const auto cells = read_results(folder.path());
  EXPECT_EQ(cells[0].device, "A GPU, then a <CPU>");
  EXPECT_THAT(markdown(cells), HasSubstr("| A GPU, then a <CPU> | 2026-11-25 |"));
  EXPECT_THAT(markdown(cells), HasSubstr("Made by: yoso lra run --seeds 0\n"));
  EXPECT_EQ(json(cells)[0]["device"], "A GPU, then a <CPU>");
  folder.write("image/softmax/0/lra.json", "{\"device\": 1}");
  EXPECT_EQ(error_of([&] { read_results(folder.path()); }),
            (run / "lra.json").string() +
                ": is not what yoso lra run writes, expected an object with device and command");
}

TEST(LraResults, StandBesideWhatWasPublished) {
  const auto image = published("image", "softmax");
  ASSERT_EQ(image.size(), 3);
  EXPECT_EQ(image[0].accuracy, 38.2);
  EXPECT_EQ(image[2].accuracy, 37.97);
  EXPECT_THAT(image[2].source->name, HasSubstr("Skeinformer"));
  EXPECT_EQ(published("text", "skein").at(0).accuracy, 62.47);
  EXPECT_EQ(published("listops", "yoso_expected").at(0).accuracy, 37.3);
  EXPECT_EQ(published("pathfinder32", "bigbird").at(0).accuracy, 68.72);
  EXPECT_TRUE(published("pathx", "softmax").empty());
  EXPECT_TRUE(published("image", "yoso_32").empty());
  // Averages are printed: with their rows they tell a wrong digit. Each of the six numbers is
  // rounded, to a hundredth or to a tenth.
  for (const PublishedRow& row : published_rows()) {
    double sum = 0;
    for (const double accuracy : row.accuracies) sum += accuracy;
    if (std::isnan(sum)) continue;
    const bool is_coarse = std::string(row.source->name).starts_with("Primal");
    EXPECT_NEAR(sum / kPublishedTasks, row.average, is_coarse ? 0.1 : 0.01) << row.method;
  }
}

TEST(LraResults, AreWrittenAsMarkdownAndJson) {
  const TestFolder folder;
  write_runs(folder);
  const auto cells = read_results(folder.path());
  const std::string text = markdown(cells);
  EXPECT_THAT(text,
              HasSubstr("| method | listops | text | retrieval | image | pathfinder32 | pathx |"));
  EXPECT_THAT(text, HasSubstr("| softmax | not run [37.1] | not run [65.02] | not run [79.35] | "
                              "38.00 ± 0.71 (2) [38.2] | not run [74.16] | not run |"));
  EXPECT_THAT(text, HasSubstr("| yoso_32 | not run | not run | not run | not run | not run | "
                              "unfinished |"));
  EXPECT_THAT(text,
              HasSubstr("| image | softmax | float32 | 35,000 | 38.00 ± 0.71 (2) | 2,000 | - | "
                        "- | 250 | 5 | 105 | - | 2026-11-25 |"));
  EXPECT_THAT(text, HasSubstr("| skein | 38.73 | 62.47 | 80.42 | 37.27 | 71.51 | 58.08 | "
                              "Skeinformer (NAACL 2022), table 1 |"));
  EXPECT_THAT(text, HasSubstr("Skeinformer (NAACL 2022), table 1: two layers, 64 wide, batches"));

  const nlohmann::json numbers = json(cells);
  ASSERT_EQ(numbers.size(), 2);
  EXPECT_EQ(numbers[0]["task"], "image");
  EXPECT_EQ(numbers[0]["accuracies"].size(), 2);
  EXPECT_EQ(numbers[0]["seconds_per_1000_steps"], 2000);
  EXPECT_EQ(numbers[0]["input_seconds"], 250);
  EXPECT_EQ(numbers[0]["examples_per_s"], 5);
  EXPECT_EQ(numbers[0]["published"][0]["accuracy"], 38.2);
  EXPECT_TRUE(numbers[1]["mean"].is_null());
  EXPECT_TRUE(numbers[1]["published"].empty());
}

TEST(LraResults, ThePageNeedsNoOtherFile) {
  const TestFolder folder;
  write_runs(folder);
  const std::string html = page(read_results(folder.path()), "a <machine>");
  EXPECT_EQ(markup_fault(html), "");
  EXPECT_THAT(html, HasSubstr("a &lt;machine&gt;"));
  EXPECT_THAT(html, HasSubstr("<td>38.00 ± 0.71 (2) [38.2]</td>"));
  EXPECT_THAT(html, HasSubstr("image: accuracy against speed"));
  EXPECT_THAT(html, HasSubstr("image: on dev"));
  EXPECT_THAT(html, Not(HasSubstr("src=")));
}

TEST(LraResults, AFolderWithoutRunsIsRefused) {
  const TestFolder folder;
  EXPECT_EQ(error_of([&] { read_results(folder.path()); }),
            folder.path().string() +
                ": has no runs, expected what yoso lra run writes, TASK/METHOD/SEED");
}

}  // namespace
}  // namespace yoso::lra
