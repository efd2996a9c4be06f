// The log of a training run, read back: DIR/run.jsonl, one JSON object a line.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace yoso {

struct RunLog {
  // Values that a line lacks are NaN.
  struct Step {
    double step, seconds, loss, tokens_per_s, peak_mib, input_s, time;
  };
  struct Evaluation {
    std::string split;  // train, dev, test
    double step, seconds, loss, accuracy, examples, time;
  };

  std::string name;  // the last part of the folder's path
  std::vector<Step> steps;
  std::vector<Evaluation> evaluations;
};

// A line with "split" is an evaluation, another one with "step" and "loss" a training step
// (yoso/train/run_recorder.h); lines of other kinds are left out, and so is a last line cut short,
// as a kill leaves it. Throws Error with file and line for anything that is not a JSON object.
RunLog read_run_log(const std::filesystem::path& folder);

// One log a folder. Where last parts coincide, a name is the parts in which the paths differ:
// runs/text/yoso/0 and runs/text/none/0 are "yoso" and "none".
std::vector<RunLog> read_run_logs(const std::vector<std::string>& folders);

// Of the finite values; NaN without any.
double median(std::vector<double> values);

}  // namespace yoso
