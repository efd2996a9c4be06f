// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "yoso/cli/bench_results.h"
#include "yoso/cli/markup_testing.h"
#include "yoso/cli/report_page.h"
#include "yoso/cli/run_log.h"
#include "yoso/core/testing.h"

namespace yoso {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class ReportTest : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& text) {
    test_folder_.write(name, text);
    return folder_ / name;
  }

  const TestFolder test_folder_;
  const std::filesystem::path folder_ = test_folder_.path();
};

constexpr const char* kLog =
    R"({"step": 1, "loss": 2.5, "learning_rate": 0.001, "tokens_per_s": 900, "seconds": 1, "peak_mib": 100}
{"step": 2, "loss": 2.0, "learning_rate": 0.001, "tokens_per_s": 1000, "seconds": 2, "peak_mib": 120}
{"step": 2, "split": "dev", "loss": 1.9, "accuracy": 0.25, "seconds": 2.5}

{"step": 3, "loss": null, "tokens_per_s": 1100, "seconds": 3, "peak_mib": 110}
{"step": 3, "split": "dev", "loss": 1.9, "accuracy": 0.125, "seconds": 3.2}
{"step": 3, "split": "test", "loss": 1.8, "accuracy": 0.5, "seconds": 3.5}
{"event": "finished"}
)";

constexpr const char* kRow =
    R"({"kind": "yoso", "mode": "sampled", "device": "cpu", "dtype": "float32", "tokens": 512,
"heads": 2, "width": 64, "threads": 1, "pass": "forward", "median_ms": 1.5,
"times_faster_than_sdpa": 4.25, "peak_mib": 3, "relative_error": 0.75})";

TEST_F(ReportTest, ReadsTheLogOfARun) {
  write("one/run.jsonl", kLog);
  const RunLog log = read_run_log(folder_ / "one/");
  EXPECT_EQ(log.name, "one");
  ASSERT_EQ(log.steps.size(), 3u);
  EXPECT_EQ(log.steps[1].loss, 2.0);
  EXPECT_EQ(log.steps[1].tokens_per_s, 1000);
  EXPECT_TRUE(std::isnan(log.steps[2].loss));
  ASSERT_EQ(log.evaluations.size(), 3u);
  EXPECT_EQ(log.evaluations[0].split, "dev");
  EXPECT_EQ(log.evaluations[2].accuracy, 0.5);
}

TEST_F(ReportTest, NamesRunsByWhatTheirPathsDifferIn) {
  const auto names = [&](const std::vector<std::string>& folders) {
    std::vector<std::string> paths, found;
    for (const std::string& folder : folders) {
      write(folder + "/run.jsonl", kLog);
      paths.push_back((folder_ / folder).string());
    }
    for (const RunLog& log : read_run_logs(paths)) found.push_back(log.name);
    return found;
  };
  EXPECT_THAT(names({"a/x/0", "a/y/1/"}), ElementsAre("0", "1"));
  EXPECT_THAT(names({"a/x/0", "a/y/0"}), ElementsAre("x", "y"));
  EXPECT_THAT(names({"a/t/x/0", "a/t/y/0", "b/t/x/0"}), ElementsAre("a/x", "a/y", "b/x"));
  EXPECT_THAT(names({"a/x/0", "a/x/1", "a/y/0"}), ElementsAre("x/0", "x/1", "y/0"));
  EXPECT_THAT(names({"a/x/0", "a/x/0"}), ElementsAre("0", "0"));
  EXPECT_THAT(names({}), ElementsAre());
}

TEST_F(ReportTest, LeavesOutALastLineCutShort) {
  write("run.jsonl", "{\"step\": 1, \"loss\": 5}\n{\"step\": 2, \"lo");
  EXPECT_EQ(read_run_log(folder_).steps.size(), 1u);
}

TEST_F(ReportTest, NamesTheBadLineOfALog) {
  const std::string file = write("run.jsonl", "{\"step\": 1, \"loss\": 5}\nbroken\n{}\n");
  EXPECT_EQ(error_of([&] { read_run_log(folder_); }),
            file + ":2: got 'broken', expected a JSON object");
  write("run.jsonl", "[1]\n");
  EXPECT_EQ(error_of([&] { read_run_log(folder_); }),
            file + ":1: got array, expected a JSON object");
  write("run.jsonl", "{\"step\": \"x\", \"loss\": 5}\n");
  EXPECT_EQ(error_of([&] { read_run_log(folder_); }),
            file + ":1: step is \"x\", expected a number");
  EXPECT_THAT(error_of([&] { read_run_log(folder_ / "none"); }),
              HasSubstr("none/run.jsonl: cannot be read"));
}

TEST_F(ReportTest, NamesTheBadEntryOfABenchmark) {
  const auto message = [&](const std::string& text) {
    const auto file = write("bench.json", text);
    return error_of([&] { read_bench(file); }).substr(file.string().size());
  };
  EXPECT_THAT(message("{\n\"results\": [\n"), StartsWith(":3: is not JSON"));
  EXPECT_THAT(message("{\"results\": [1e999]}"), StartsWith(": has a number beyond all bounds"));
  EXPECT_THAT(message("{}"), StartsWith(": has no array 'results'"));
  EXPECT_EQ(message("{\"results\": [3]}"), ": results[0] is number, expected an object");
  auto row = nlohmann::json::parse(kRow);
  row["tokens"] = 0;
  EXPECT_EQ(message(nlohmann::json{{"results", {row}}}.dump()),
            ": results[0].tokens is 0, expected a positive integer");
  row["tokens"] = 512;
  row.erase("median_ms");
  EXPECT_EQ(message(nlohmann::json{{"results", {row}}}.dump()),
            ": results[0].median_ms is missing, expected a number or null");
}

TEST_F(ReportTest, ChartsNameWhatDiffers) {
  auto results = nlohmann::json::array();
  for (const char* dtype : {"float32", "bfloat16"}) {
    for (int tokens : {1024, 512}) {
      for (int threads : {1, 2}) {
        auto row = nlohmann::json::parse(kRow);
        row.update({{"dtype", dtype}, {"tokens", tokens}, {"threads", threads}});
        row["median_ms"] = tokens * threads;
        results.push_back(row);
      }
    }
  }
  const auto charts = bench_charts(results);
  ASSERT_EQ(charts.size(), 3u);  // time, memory, error; nothing for forward+backward
  ASSERT_EQ(charts[0].series.size(), 2u);
  EXPECT_EQ(charts[0].title, "Forward, 2 threads");
  EXPECT_EQ(charts[0].series[0].name, "float32");
  EXPECT_EQ(charts[0].series[1].name, "bfloat16");
  EXPECT_THAT(charts[0].series[0].x, ElementsAre(512, 1024));
  EXPECT_THAT(charts[0].series[0].y, ElementsAre(1024, 2048));
}

TEST_F(ReportTest, PageHoldsRunsAndBenchmarks) {
  write("<b>&run/run.jsonl", kLog);
  Report report;
  report.date = "2026-11-24T09:30:00Z";
  report.machine = "a <machine>";
  report.runs = {read_run_log(folder_ / "<b>&run")};
  report.benches = {{{"command", "yoso bench <attention>"},
                     {"machine", {{"cpu", "Some CPU"}, {"cores", 2}, {"simd", "avx3"}}},
                     {"results", {nlohmann::json::parse(kRow)}}}};
  const std::string page = report_page(report);
  EXPECT_EQ(markup_fault(page), "");
  EXPECT_THAT(page, HasSubstr("2026-11-24T09:30:00Z, a &lt;machine&gt;"));
  EXPECT_THAT(page, Not(HasSubstr("<b>")));
  EXPECT_THAT(page, HasSubstr("<td>&lt;b&gt;&amp;run</td><td>25 %</td><td>2</td><td>50 %</td>"
                              "<td>3</td><td>3</td><td>1,000</td><td>120</td>"));
  EXPECT_THAT(page, HasSubstr("run: 3, 0.125<"));
  EXPECT_THAT(page, Not(HasSubstr("run: 3, 0.5<")));  // the test split is no learning curve
  EXPECT_THAT(page, HasSubstr("Some CPU, 2 cores, SIMD level avx3"));
  EXPECT_THAT(page, HasSubstr("<td>sampled</td><td>512</td><td>forward</td>"));
  EXPECT_THAT(page, HasSubstr("<td>1.5</td><td>4.25</td><td>3</td><td>0.75</td>"));
  EXPECT_THAT(page, Not(testing::AnyOf(HasSubstr("src="), HasSubstr("href="), HasSubstr("url("))));
}

TEST_F(ReportTest, EmptyReportIsAPage) { EXPECT_EQ(markup_fault(report_page({})), ""); }

TEST_F(ReportTest, FigureHasACurveAndATimeChart) {
  write("run/run.jsonl", kLog);
  Report report;
  report.runs = {read_run_log(folder_ / "run")};
  report.benches = {{{"results", {nlohmann::json::parse(kRow)}}}};
  const std::string figure = report_figure(report);
  EXPECT_EQ(markup_fault(figure), "");
  EXPECT_THAT(figure, HasSubstr("Dev accuracy by seconds"));
  EXPECT_THAT(figure, HasSubstr("Forward, 1 thread<"));
  EXPECT_THAT(figure, Not(HasSubstr("memory")));
}

}  // namespace
}  // namespace yoso
