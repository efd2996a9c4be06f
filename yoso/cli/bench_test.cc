// The commands bench, report and info as a user types them, on tiny sizes.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <filesystem>

#include "yoso/cli/bench_results.h"
#include "yoso/cli/command_testing.h"
#include "yoso/cli/commands.h"
#include "yoso/cli/markup_testing.h"
#include "yoso/core/testing.h"

namespace yoso {
namespace {

using testing::Contains;
using testing::HasSubstr;

class CommandTest : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_ / name; }

  static std::string run(const std::string& arguments) {
    return run_command({add_bench_command, add_info_command, add_report_command}, arguments);
  }

  static std::string message_of(const std::string& arguments) {
    try {
      run(arguments);
    } catch (const std::exception& error) {
      return error.what();
    }
    return "no error";
  }

  static constexpr const char* kTiny =
      "bench attention --heads 2 --width 8 --hashes 4 --repeat 2 --min-time 0 --threads 1 ";

  const TestFolder folder_;
};

TEST_F(CommandTest, BenchWritesItsResults) {
  const std::string table =
      run(std::string(kTiny) + "--tokens 16,32 --kinds sampled,expected,auto,softmax --out " +
          path("bench.json") + " --chart " + path("bench.svg"));
  EXPECT_THAT(table, HasSubstr("x SDPA"));
  const auto document = read_bench(path("bench.json"));
  EXPECT_EQ(document["program"], "yoso bench attention");
  EXPECT_EQ(document["torch"], "2.11.0");
  EXPECT_GE(document["machine"]["cores"], 1);
  const auto& results = document["results"];
  ASSERT_EQ(results.size(), 16u);  // 2 passes, 2 lengths, 4 kinds
  for (const auto& row : results) {
    EXPECT_FALSE(row["skipped"]);
    EXPECT_GT(row["median_ms"], 0.0);
    EXPECT_GE(row["runs"], 2);
    for (const auto& peer : results) {
      if (kind_of(peer) != "softmax" || peer["tokens"] != row["tokens"] ||
          peer["pass"] != row["pass"]) {
        continue;
      }
      EXPECT_DOUBLE_EQ(row["times_faster_than_sdpa"],
                       number_of(peer, "median_ms") / number_of(row, "median_ms"));
    }
    EXPECT_LE(row["times_faster_than_fastest_sdpa"], row["times_faster_than_sdpa"]);
    EXPECT_GE(row["peak_mib"], 0.0);
    EXPECT_GT(row["peak_total_mib"], row["peak_mib"]);
    EXPECT_EQ(row["device"], "cpu");
    EXPECT_THAT((std::vector<std::string>{"forward", "forward+backward"}), Contains(row["pass"]));
    if (kind_of(row) == "softmax") {
      EXPECT_TRUE(row["mode"].is_null());
      EXPECT_EQ(row["times_faster_than_sdpa"], 1.0);
    }
    if (kind_of(row) == "expected") {
      EXPECT_LT(row["relative_error"], 1e-5);
    } else if (kind_of(row) == "sampled") {
      EXPECT_GT(row["relative_error"], 1e-2);
    }
  }
  EXPECT_EQ(markup_fault(folder_.read("bench.svg")), "");
}

TEST_F(CommandTest, WhatIsLeftOutHasNoNumbers) {
  run(std::string(kTiny) +
      "--tokens 2560 --pass forward --skip-slower-than 1e-9 --kinds sampled,expected,softmax "
      "--out " +
      path("bench.json"));
  const auto results = read_bench(path("bench.json"))["results"];
  ASSERT_EQ(results.size(), 3u);
  for (const auto& row : results) {
    const bool sampled = kind_of(row) == "sampled";
    EXPECT_EQ(row["skipped"], !sampled);
    EXPECT_EQ(row["median_ms"].is_null(), !sampled);
    EXPECT_EQ(row["relative_error"].is_null(), !sampled);
    EXPECT_TRUE(row["times_faster_than_sdpa"].is_null());
    EXPECT_TRUE(row["times_faster_than_fastest_sdpa"].is_null());
  }
}

TEST_F(CommandTest, GrowthComparesLengths) {
  run("bench growth --tokens 16,64 --heads 1 --width 8 --hashes 4 --repeat 1 --min-time 0 "
      "--pass forward --threads 1 --out " +
      path("growth.json"));
  const auto results = read_bench(path("growth.json"))["results"];
  ASSERT_EQ(results.size(), 12u);  // 3 inputs, 2 lengths, 2 rules of T
  for (const auto& row : results) {
    EXPECT_EQ(row["times_per_doubling"].is_null(), row["tokens"] == 16);
    EXPECT_EQ(row["bits"], row["bits_rule"] == "T = 8" ? 8 : row["tokens"] == 16 ? 4 : 6);
    EXPECT_TRUE(row["times_faster_than_sdpa"].is_null());
  }
}

TEST_F(CommandTest, CrossoverPrintsRowsOfTheTable) {
  EXPECT_THAT(run("bench crossover --tokens 16 --heads 1 --width 8 --repeat 1 --min-time 0"),
              HasSubstr("{Device::kCpu, 16, "));
}

TEST_F(CommandTest, BenchRefusesBadOptions) {
  EXPECT_EQ(message_of("bench attention --device gpu"),
            "--device is 'gpu', expected cpu, cuda or a GPU such as cuda:1");
  EXPECT_EQ(message_of("bench attention --bits 17"),
            "bench: --bits is '17', expected 1 to 16 or log2");
  EXPECT_THAT(message_of("bench attention --kinds foo"), HasSubstr("--kinds: foo not in"));
  EXPECT_THAT(message_of("bench attention --width 257"), HasSubstr("--width"));
  EXPECT_EQ(message_of("bench attention --tokens 0"), "--tokens: is '0', expected more than 0");
  EXPECT_EQ(message_of("bench attention --min-time -1"), "--min-time: is '-1', expected 0 or more");
  EXPECT_THAT(message_of("bench attention --out " + path("none/bench.json")),
              HasSubstr("none/bench.json: cannot open: No such file"));
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(CommandTest, ReportWritesOnePage) {
  run(std::string(kTiny) + "--tokens 16,32 --out " + path("bench.json"));
  folder_.write("run.jsonl", "{\"step\": 1, \"loss\": 2, \"seconds\": 1}\n");
  run("report --runs " + path("") + " --bench " + path("bench.json") + " --out " +
      path("report.html") + " --figure " + path("figure.svg"));
  EXPECT_EQ(markup_fault(folder_.read("report.html")), "");
  EXPECT_EQ(markup_fault(folder_.read("figure.svg")), "");
  EXPECT_THAT(folder_.read("report.html"), HasSubstr("<td>sampled</td>"));
}

TEST_F(CommandTest, ReportRefusesBadInput) {
  EXPECT_THAT(message_of("report --out x.html"), HasSubstr("neither --runs nor --bench"));
  EXPECT_THAT(message_of("report --runs x"), HasSubstr("neither --out nor --figure"));
  folder_.write("run.jsonl", "{\"step\": 1, \"loss\": 2}\nbad\n{}\n");
  EXPECT_THAT(message_of("report --runs " + path("") + " --out " + path("report.html")),
              HasSubstr("run.jsonl:2: got 'bad', expected a JSON object"));
  EXPECT_FALSE(std::filesystem::exists(path("report.html")));
}

TEST_F(CommandTest, InfoNamesWhatThereIs) {
  const auto info = nlohmann::json::parse(run("info --json"));
  EXPECT_THAT(info["operators"], Contains("yoso::bucket_attention"));
  EXPECT_THAT(info["attention_kinds"], Contains("softmax"));
  EXPECT_THAT(info["tasks"], Contains("listops"));
  EXPECT_THAT(info["simd"]["supported"], Contains(info["simd"]["level"]));
  const std::string text = run("info");
  EXPECT_THAT(text, HasSubstr("attention kinds"));
  EXPECT_THAT(text, HasSubstr(info["version"].get<std::string>()));
}

}  // namespace
}  // namespace yoso
