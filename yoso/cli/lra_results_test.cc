// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/lra_results.h"

#include <gmock/gmock.h>

#include <cmath>

#include "yoso/core/testing.h"

namespace yoso::lra {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Steps of two seconds but for one with an evaluation, and the accuracy on test if there is one.
std::string log(double accuracy) {
  std::string text;
  for (int step = 1, seconds = 2; step <= 5; ++step, seconds += step == 3 ? 50 : 2)
    text += join("{\"step\": ", step, ", \"loss\": 1, \"seconds\": ", seconds,
                 ", \"peak_mib\": ", 100 + step, "}\n");
  text += "{\"step\": 5, \"split\": \"dev\", \"loss\": 1, \"accuracy\": 0.25, \"seconds\": 60}\n";
  if (std::isfinite(accuracy))
    text += join("{\"step\": 5, \"split\": \"test\", \"loss\": 1, \"accuracy\": ", accuracy, "}\n");
  return text;
}

void write_runs(const TestFolder& folder) {
  folder.write("image/softmax/0/run.jsonl", log(0.375));
  folder.write("image/softmax/1/run.jsonl", log(0.385));
  folder.write("image/softmax/2/run.jsonl", log(NAN));
  folder.write("pathx/yoso_32/0/run.jsonl", log(NAN));
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
  EXPECT_EQ(cells[0].seconds_per_1000_steps, 2000);
  EXPECT_EQ(cells[0].peak_mib, 105);
  EXPECT_EQ(cells[1].method, "yoso_32");
  EXPECT_TRUE(std::isnan(cells[1].mean()));
  EXPECT_TRUE(std::isnan(cells[1].deviation()));
}

TEST(LraResults, StandBesideWhatWasPublished) {
  EXPECT_EQ(published("image", "softmax")->accuracy, 38.2);
  EXPECT_EQ(published("listops", "yoso_expected")->accuracy, 37.3);
  EXPECT_EQ(published("pathfinder32", "bigbird")->accuracy, 68.72);
  EXPECT_FALSE(published("pathx", "softmax"));
  EXPECT_FALSE(published("image", "yoso_32"));
}

TEST(LraResults, AreWrittenAsMarkdownAndJson) {
  const TestFolder folder;
  write_runs(folder);
  const auto cells = read_results(folder.path());
  const std::string text = markdown(cells);
  EXPECT_THAT(text,
              HasSubstr("| method | listops | text | retrieval | image | pathfinder32 | pathx |"));
  EXPECT_THAT(text,
              HasSubstr("| softmax | not run [37.1] | not run [65] | not run [79.4] | 38.00 ± "
                        "0.71 (2) [38.2] | not run [74.2] | not run |"));
  EXPECT_THAT(text, HasSubstr("| yoso_32 | not run | not run | not run | not run | not run | "
                              "unfinished |"));
  EXPECT_THAT(text, HasSubstr("| softmax | - | - | - | 2,000 | - | - |"));

  const nlohmann::json numbers = json(cells);
  ASSERT_EQ(numbers.size(), 2);
  EXPECT_EQ(numbers[0]["task"], "image");
  EXPECT_EQ(numbers[0]["accuracies"].size(), 2);
  EXPECT_EQ(numbers[0]["published"]["accuracy"], 38.2);
  EXPECT_TRUE(numbers[1]["mean"].is_null());
  EXPECT_FALSE(numbers[1].contains("published"));
}

TEST(LraResults, ThePageNeedsNoOtherFile) {
  const TestFolder folder;
  write_runs(folder);
  const std::string html = page(read_results(folder.path()), "a <machine>");
  EXPECT_THAT(html, HasSubstr("a &lt;machine&gt;"));
  EXPECT_THAT(html, HasSubstr("<td>38.00 ± 0.71 (2) [38.2]</td>"));
  EXPECT_THAT(html, HasSubstr("image: accuracy against speed"));
  EXPECT_THAT(html, HasSubstr("image: on dev"));
  EXPECT_THAT(html, testing::Not(HasSubstr("src=")));
}

TEST(LraResults, AFolderWithoutRunsIsRefused) {
  const TestFolder folder;
  EXPECT_EQ(error_of([&] { read_results(folder.path()); }),
            folder.path().string() +
                ": has no runs, expected what yoso lra run writes, TASK/METHOD/SEED");
}

}  // namespace
}  // namespace yoso::lra
