// The command bench methods as a user types it, on tiny sizes.
// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/bench_methods.h"

#include <gmock/gmock.h>

#include <set>

#include "yoso/cli/bench_results.h"
#include "yoso/cli/command_testing.h"
#include "yoso/cli/commands.h"
#include "yoso/cli/markup_testing.h"
#include "yoso/core/testing.h"
#include "yoso/nn/attention.h"

namespace yoso {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsSupersetOf;
using testing::StartsWith;

class BenchMethodsTest : public testing::Test {
 protected:
  std::string run(const std::string& rest) const {
    return run_command({add_bench_command, add_report_command},
                       "bench methods --heads 2 --width 8 --repeat 1 --min-time 0 --threads 1 "
                       "--set model.layers=1 --out " +
                           folder_ / "methods.json" + " " + rest);
  }
  nlohmann::json results() const { return read_bench(folder_ / "methods.json")["results"]; }

  const TestFolder folder_;
};

TEST_F(BenchMethodsTest, TimesEveryMethodInEveryPartAndPass) {
  const std::string table = run("--tokens 16,40");
  EXPECT_THAT(table, HasSubstr("x softmax"));
  const auto rows = results();
  std::set<std::string> methods;
  for (const auto& row : rows) methods.insert(row["kind"]);
  std::vector<std::string> kinds = nn::attention_kinds();
  std::replace(kinds.begin(), kinds.end(), std::string("yoso"), std::string("yoso_32"));
  EXPECT_THAT(methods, IsSupersetOf(kinds));
  ASSERT_EQ(rows.size(), methods.size() * 2 * 2 * 2);  // parts, passes, lengths
  for (const auto& row : rows) {
    if (row["kind"] == "none" && row["part"] == "layer") {
      EXPECT_EQ(row["left_out"], "the values are passed on");
      continue;
    }
    EXPECT_FALSE(row["skipped"]) << row;
    EXPECT_GT(row["median_ms"], 0.0) << row;
    EXPECT_GE(row["peak_mib"], 0.0) << row;
    for (const auto& peer : rows) {
      if (peer["kind"] != "softmax" || peer["tokens"] != row["tokens"] ||
          peer["pass"] != row["pass"] || peer["part"] != row["part"]) {
        continue;
      }
      EXPECT_DOUBLE_EQ(row["times_faster_than_softmax"],
                       number_of(peer, "median_ms") / number_of(row, "median_ms"));
    }
  }
}

TEST_F(BenchMethodsTest, NamesWhatWouldBeTooSlowOrTooLarge) {
  run("--tokens 256,512,1024,2048 --methods linear,yoso_32 --parts layer --pass forward "
      "--skip-slower-than 1e-9");
  const auto rows = results();
  ASSERT_EQ(rows.size(), 8u);
  for (const auto& row : rows) {
    const bool known = row["tokens"] <= 512;  // two lengths tell the third
    EXPECT_EQ(row["skipped"], !known);
    EXPECT_EQ(row["median_ms"].is_null(), !known);
    EXPECT_EQ(row["left_out"].is_null(), known);
    EXPECT_TRUE(row["times_faster_than_softmax"].is_null());  // softmax was not asked for
    if (known) continue;
    EXPECT_THAT(row["left_out"].get<std::string>(),
                testing::AllOf(StartsWith("about "), HasSubstr(" s a run at 1024 tokens")));
  }
  // Queries, keys and values of 2^18 tokens, 2 heads and 8 columns alone are 48 MiB. Lengths
  // between tell so before the memory is asked for.
  const std::string table =
      run("--tokens 256,262144 --methods linear --parts layer --pass forward --max-memory 20");
  EXPECT_FALSE(results()[0]["skipped"]);
  EXPECT_THAT(results()[1]["left_out"].get<std::string>(), HasSubstr(" MiB at "));
  EXPECT_THAT(table, HasSubstr("left out: about "));
}

TEST_F(BenchMethodsTest, TakesOtherModels) {
  run("--tokens 16 --methods yoso_32 --parts encoder --dtype bfloat16 --batch 3 "
      "--set model.attention.yoso.code_bits=4");
  const auto rows = results();
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0]["batch"], 3);
  EXPECT_EQ(rows[0]["dtype"], "bfloat16");
  EXPECT_THAT(error_of([&] { run("--tokens 16 --set model.layer=3"); }),
              HasSubstr("unknown key model.layer"));
  EXPECT_EQ(error_of([&] { run("--tokens 16 --set train.steps=3"); }),
            "bench: --set is 'train.steps=3', expected a key of [model]");
  EXPECT_EQ(error_of([&] { run("--tokens 16 --set model.hidden=32"); }),
            "bench: --set gives 2 heads in 32 columns, expected 2 of 8: --heads and --width");
  EXPECT_THROW(run("--tokens 16 --dtype float16"), CLI::ValidationError);
  EXPECT_THAT(error_of([&] { run("--tokens 16 --methods yoso_64"); }),
              StartsWith("lra: method is 'yoso_64', expected one of yoso_32, "));
}

TEST_F(BenchMethodsTest, IsDrawnByTheReport) {
  run("--tokens 16,32 --methods softmax,none --chart " + folder_ / "methods.svg");
  EXPECT_EQ(markup_fault(folder_.read("methods.svg")), "");
  std::vector<std::string> titles;
  for (const Chart& chart : bench_charts(results())) titles.push_back(chart.title);
  EXPECT_THAT(titles,
              IsSupersetOf({"encoder: Forward, 1 thread", "encoder: Forward + backward, 1 thread",
                            "layer: Forward, 1 thread", "layer: Forward + backward, 1 thread"}));
  run_command({add_report_command},
              "report --bench " + folder_ / "methods.json" + " --out " + folder_ / "page.html");
  const std::string page = folder_.read("page.html");
  EXPECT_EQ(markup_fault(page), "");
  EXPECT_THAT(page, HasSubstr("<td>none</td><td>encoder</td><td>16</td><td>forward</td>"));
  EXPECT_THAT(page, HasSubstr("<th>times faster than softmax</th>"));
}

}  // namespace
}  // namespace yoso
