// yoso data: generates the data of a task, or prepares what others published.
// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/data.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "yoso/cli/commands.h"

namespace yoso {

ProgressLine::ProgressLine()
    : on_terminal_(isatty(STDERR_FILENO) == 1),
      interval_(on_terminal_ ? 0.2 : 5),
      due_(interval_) {}

ProgressLine::~ProgressLine() {
  if (shown_ && on_terminal_) std::fputc('\n', stderr);
}

void ProgressLine::show(int64_t done, int64_t total) {
  const std::chrono::duration<double> elapsed = Clock::now() - start_;
  const double seconds = elapsed.count();
  if (seconds < due_ && !(shown_ && done == total)) return;
  due_ = seconds + interval_;
  shown_ = true;
  const double rate = static_cast<double>(done) / seconds;
  std::fprintf(stderr, "%s%lld of %lld examples, %.0f/s, %.0f s left%s", on_terminal_ ? "\r" : "",
               static_cast<long long>(done), static_cast<long long>(total), rate,
               static_cast<double>(total - done) / rate, on_terminal_ ? "\033[K" : "\n");
}

void add_data_command(CLI::App& app) {
  CLI::App* data = app.add_subcommand("data", "Generate or prepare the data of a task");
  data->require_subcommand(1);
  add_image_data(*data);
  add_listops_data(*data);
  add_pathfinder_data(*data);
  add_retrieval_data(*data);
}

}  // namespace yoso
