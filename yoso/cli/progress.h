// What a training run shows: one line that rewrites itself on a terminal, else a line now and then.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <ostream>
#include <string>
#include <utility>

#include "yoso/train/loop.h"

namespace yoso {

class Progress : public RunObserver {
 public:
  // `name` begins every line, for the logs of several runs.
  Progress(std::ostream& out, bool on_terminal, int64_t steps, std::string name = "")
      : out_(out), on_terminal_(on_terminal), steps_(steps), name_(std::move(name)) {}

  void on_start(int64_t first_step, int64_t parameters) override;
  void on_step(const StepReport& report) override;
  void on_evaluation(const EvaluationReport& report, bool is_best) override;
  void on_no_graphs(const std::string& why) override;

 private:
  using Clock = std::chrono::steady_clock;

  void begin_line();

  std::ostream& out_;
  bool on_terminal_;
  int64_t steps_, first_step_ = 0;
  std::string name_;
  Clock::time_point started_, next_;
  double loss_ = 0, tokens_per_s_ = 0;  // running means
};

}  // namespace yoso
