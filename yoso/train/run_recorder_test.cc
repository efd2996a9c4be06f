// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/run_recorder.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "yoso/core/testing.h"
#include "yoso/train/tensorboard.h"

namespace yoso {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class RunRecorderTest : public testing::Test {
 protected:
  std::vector<int64_t> steps() {
    std::vector<int64_t> steps;
    std::istringstream lines(read_text(folder_ + "/run.jsonl"));
    for (std::string line; std::getline(lines, line);)
      steps.push_back(nlohmann::json::parse(line).at("step"));
    return steps;
  }
  std::string events() { return read_text(folder_ + "/events.out.tfevents.yoso"); }

  const TestFolder test_folder_;
  const std::string folder_ = test_folder_.path();
};

RunRecorder::Keep until(int64_t last_step) {
  return [last_step](int64_t step, const std::string&) { return step <= last_step; };
}

StepReport step_report(int64_t step) {
  StepReport report;
  report.step = step;
  report.loss = 1.0 / 3;
  return report;
}

TEST_F(RunRecorderTest, WritesLinesWithEveryDigit) {
  {
    RunRecorder recorder(folder_, until(0));
    recorder.add(step_report(1));
    recorder.add(EvaluationReport{.step = 1, .split = "dev", .loss = 0.5, .accuracy = 0.25});
  }
  std::istringstream lines(read_text(folder_ + "/run.jsonl"));
  std::string line;
  ASSERT_TRUE(std::getline(lines, line));
  EXPECT_EQ(nlohmann::json::parse(line).at("loss").get<double>(), 1.0 / 3);
  ASSERT_TRUE(std::getline(lines, line));
  const auto evaluation = nlohmann::json::parse(line);
  EXPECT_EQ(evaluation.at("split"), "dev");
  EXPECT_EQ(evaluation.at("accuracy"), 0.25);
  EXPECT_THAT(events(), HasSubstr("train/loss"));
  EXPECT_THAT(events(), HasSubstr("dev/accuracy"));
}

TEST_F(RunRecorderTest, GoesOnFromAStepWithoutRepeatingAny) {
  {
    RunRecorder recorder(folder_, until(0));
    for (int64_t step = 1; step <= 5; ++step) recorder.add(step_report(step));
  }
  std::ofstream(folder_ + "/run.jsonl", std::ios::app) << R"({"step": 6, "lo)";  // a kill
  const size_t size_of_five = events().size();
  {
    RunRecorder recorder(folder_, until(3));
    EXPECT_THAT(steps(), ElementsAre(1, 2, 3));
    recorder.add(step_report(4));
    recorder.add(step_report(5));
  }
  EXPECT_THAT(steps(), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_EQ(events().size(), size_of_five);
}

TEST_F(RunRecorderTest, ALineOfSomethingElseIsRefusedAndKept) {
  std::ofstream(folder_ + "/run.jsonl") << R"({"step": 1, "loss": 1, "time": 1})"
                                        << "\nnotes\n";
  EXPECT_THAT(error_of([&] { RunRecorder(folder_, until(3)); }),
              HasSubstr("run.jsonl:2: is not a record of a run"));
  EXPECT_THAT(read_text(folder_ + "/run.jsonl"), HasSubstr("notes"));
}

}  // namespace
}  // namespace yoso
