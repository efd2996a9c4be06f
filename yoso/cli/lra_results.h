// Results of the Long Range Arena: what `yoso lra run` leaves, OUT/TASK/METHOD/SEED with
// recipe.toml, run.jsonl and lra.json each, gathered.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "yoso/cli/run_log.h"
#include "yoso/train/recipe.h"

namespace yoso::lra {

struct TaskSteps {
  const char* name;
  int64_t steps;  // of the protocol: of recipes/lra/NAME.toml
};
inline constexpr TaskSteps kTasks[] = {{"listops", 5000},       {"text", 20000},
                                       {"retrieval", 30000},    {"image", 35000},
                                       {"pathfinder32", 62400}, {"pathx", 20000}};
std::vector<std::string> task_names();

// Adds to SEED/lra.json on what a run is made and by which command; a run that goes on elsewhere
// names every device.
void write_origin(const std::filesystem::path& run, const std::string& device,
                  const std::string& command);

// Runs of a method on a task that differ in the seed alone. All but the accuracies is of the first
// run. Numbers are NaN, and texts "", where the runs do not tell.
struct Cell {
  std::string task, method;
  Recipe recipe;
  std::vector<std::string> seeds;  // of the runs that are finished
  std::vector<double> accuracies;  // on test, of each of them, in percent
  int64_t unfinished = 0;          // other runs

  std::string device, command;
  std::string date;              // of the last record: "2026-11-25"
  double step_seconds = 0;       // median step, without evaluations
  double input_seconds = 0;      // of it, waiting for the batch
  double attention_seconds = 0;  // of it, beyond a step of kind none in the same setting
  double examples_per_s = 0;     // median evaluation on dev
  double peak_mib = 0;
  RunLog curve;

  double rest_seconds() const;
  double mean() const;       // NaN without a finished run
  double deviation() const;  // of the sample; NaN with fewer than two

  int64_t steps() const { return recipe.train.steps; }
  double shortened() const;  // K: the protocol's steps by those of the run
  bool is_partial() const { return shortened() > 1; }
  std::string precision() const;  // "float32", "bfloat16"
  std::string row() const;        // "yoso_32, bfloat16"
  std::string share() const;      // "1/8: 625 steps"
  std::string name() const;       // the row, and the share of a partial run
};

// Runs of another number of steps or precision make another cell. Throws Error when there is no run
// in the folder, for a file that is not what a run leaves, and for runs of a method on a task that
// differ in other settings.
std::vector<Cell> read_results(const std::filesystem::path& folder);

}  // namespace yoso::lra
