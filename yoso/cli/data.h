// The subcommands of yoso data, one a task, and what they share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>

namespace CLI {
class App;
}

namespace yoso {

void add_listops_data(CLI::App& data);
void add_image_data(CLI::App& data);
void add_pathfinder_data(CLI::App& data);
void add_retrieval_data(CLI::App& data);

// How far a long job is, on stderr: a line that rewrites itself on a terminal, else one now and
// then, and none for a job that is done before the first is due.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();

  void show(int64_t done, int64_t total);

 private:
  using Clock = std::chrono::steady_clock;

  Clock::time_point start_ = Clock::now();
  bool on_terminal_, shown_ = false;
  double interval_, due_;  // seconds
};

}  // namespace yoso
