// The record of a run, in its folder: run.jsonl, one JSON object a line, and the same scalars for
// TensorBoard (events.out.tfevents.yoso).
//
//   {"step": 7, "loss": 2.3, "learning_rate": 1e-4, "tokens_per_s": 5e4, "seconds": 3.5,
//    "peak_mib": 300, "input_s": 1e-6, "time": 1764000000.5}
//   {"step": 100, "split": "dev", "loss": 2.2, "accuracy": 0.3, "examples": 2000, "seconds": 50,
//    "time": 1764000046.5}
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "yoso/core/file.h"

namespace yoso {

struct StepReport {
  int64_t step = 0;
  double loss = 0;  // mean over the labels of the step
  double learning_rate = 0;
  double tokens_per_s = 0;  // real tokens, of this step
  double seconds = 0;       // spent by the run so far, all its processes together
  double peak_mib = 0;      // of the GPU's memory, or of the process's without a GPU
  double input_s = 0;       // of this step, waiting for its batches
};

struct EvaluationReport {
  int64_t step = 0;
  std::string split;
  double loss = 0, accuracy = 0;  // means over the labels of the split
  int64_t examples = 0;
  double seconds = 0;  // as in StepReport
};

class RunRecorder {
 public:
  // Says whether a record stays; `split` is "" for a step.
  using Keep = std::function<bool(int64_t step, const std::string& split)>;

  // Goes on with what is recorded and `keep` keeps: a run that was killed had recorded more than
  // its checkpoint knows, and nothing may stand twice. Throws Error with path and line for a line
  // that is not ours.
  RunRecorder(const std::string& folder, const Keep& keep);

  void add(const StepReport& report);
  void add(const EvaluationReport& report);

 private:
  FileAppender lines_, events_;
};

}  // namespace yoso
