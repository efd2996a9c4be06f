// Results of the Long Range Arena: what `yoso lra run` leaves, OUT/TASK/METHOD/SEED with a
// run.jsonl each, gathered and beside the numbers that others published.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "yoso/cli/run_log.h"

namespace yoso::lra {

inline constexpr const char* kTasks[] = {"listops", "text",         "retrieval",
                                         "image",   "pathfinder32", "pathx"};

// Test accuracy in percent under the protocol of the YOSO and Nystromformer papers (two layers, 64
// wide), where somebody printed one that we have read.
struct Published {
  double accuracy;
  const char* source;
};
std::optional<Published> published(std::string_view task, std::string_view method);

// All runs of a method on a task.
struct Cell {
  std::string task, method;
  std::vector<std::string> seeds;     // of the runs that are finished
  std::vector<double> accuracies;     // on test, of each of them, in percent
  int64_t unfinished = 0;             // other runs
  double seconds_per_1000_steps = 0;  // median step of the first run; NaN without steps
  double peak_mib = 0;                // the most of all runs
  RunLog curve;                       // of the first run

  double mean() const;       // NaN without a finished run
  double deviation() const;  // of the sample; NaN with fewer than two
};

// Throws Error when there is no run in the folder.
std::vector<Cell> read_results(const std::filesystem::path& folder);

std::string markdown(const std::vector<Cell>& cells);
nlohmann::json json(const std::vector<Cell>& cells);
// One page that needs no other file: tables, accuracy against speed, learning curves.
std::string page(const std::vector<Cell>& cells, const std::string& machine);

}  // namespace yoso::lra
