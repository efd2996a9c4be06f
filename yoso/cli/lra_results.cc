// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/lra_results.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>

#include "yoso/cli/chart.h"
#include "yoso/core/check.h"
#include "yoso/core/file.h"

namespace yoso::lra {
namespace {

namespace fs = std::filesystem;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (entry.is_directory()) found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

// lra.json, empty texts where there is none.
struct Origin {
  std::string device, command;
};

Origin read_origin(const fs::path& run) {
  const std::string path = (run / "lra.json").string();
  if (!fs::exists(path)) return {};
  try {
    const auto origin = nlohmann::json::parse(read_text(path));
    return {origin.at("device"), origin.at("command")};
  } catch (const nlohmann::json::exception&) {
    fail(path, ": is not what yoso lra run writes, expected an object with device and command");
  }
}

// Evaluations fall on few steps: the median is of steps alone.
double median_step(const RunLog& log) {
  std::vector<double> seconds;
  for (size_t i = 1; i < log.steps.size(); ++i)
    seconds.push_back(log.steps[i].seconds - log.steps[i - 1].seconds);
  return median(std::move(seconds));
}

double median_wait(const RunLog& log) {
  std::vector<double> seconds;
  for (const RunLog::Step& step : log.steps) seconds.push_back(step.input_s);
  return median(std::move(seconds));
}

// An evaluation on dev begins when its step is recorded, and is recorded when it ends.
double median_examples_per_s(const RunLog& log) {
  std::vector<double> rates;
  for (const auto& evaluation : log.evaluations) {
    if (evaluation.split != "dev") continue;
    const auto step =
        std::lower_bound(log.steps.begin(), log.steps.end(), evaluation.step,
                         [](const RunLog::Step& s, double wanted) { return s.step < wanted; });
    if (step == log.steps.end() || step->step != evaluation.step) continue;
    rates.push_back(evaluation.examples / (evaluation.seconds - step->seconds));
  }
  return median(std::move(rates));
}

std::string day_of(const RunLog& log) {
  double last = kNaN;
  for (const auto& step : log.steps) last = std::fmax(last, step.time);
  for (const auto& evaluation : log.evaluations) last = std::fmax(last, evaluation.time);
  if (!std::isfinite(last)) return "";
  using namespace std::chrono;
  const year_month_day day{floor<days>(sys_seconds{seconds{static_cast<int64_t>(last)}})};
  char text[32];
  std::snprintf(text, sizeof text, "%04d-%02u-%02u", static_cast<int>(day.year()),
                static_cast<unsigned>(day.month()), static_cast<unsigned>(day.day()));
  return text;
}

// What runs of one cell have in common.
std::string settings_of(Recipe recipe) {
  recipe.task.data.clear();
  recipe.train.seed = recipe.train.threads = recipe.train.checkpoint_every = 0;
  recipe.train.out.clear();
  return to_toml(recipe);
}

// What decides the time of a step beside the attention.
std::string pace_of(const Cell& cell) {
  Recipe recipe = cell.recipe;
  recipe.task.data.clear();
  recipe.model.encoder.attention = {.heads = recipe.model.encoder.attention.heads};
  recipe.train = {};
  recipe.train.batch_size = cell.recipe.train.batch_size;
  recipe.train.accumulate = cell.recipe.train.accumulate;
  recipe.train.length_window = cell.recipe.train.length_window;
  recipe.train.threads = cell.recipe.train.threads;
  recipe.train.mixed_precision = cell.recipe.train.mixed_precision;
  return join(cell.task, "\n", cell.device, "\n", to_toml(recipe));
}

void add_run(const fs::path& run, std::vector<Cell>& cells) {
  Cell cell;
  cell.method = run.parent_path().filename().string();
  cell.task = run.parent_path().parent_path().filename().string();
  cell.recipe = read_recipe((run / "recipe.toml").string());
  RunLog log = read_run_log(run);
  auto place = std::find_if(cells.begin(), cells.end(), [&](const Cell& other) {
    return other.task == cell.task && other.name() == cell.name();
  });
  if (place == cells.end()) {
    Origin origin = read_origin(run);
    cell.device = std::move(origin.device);
    cell.command = std::move(origin.command);
    cell.date = day_of(log);
    cell.step_seconds = median_step(log);
    cell.input_seconds = median_wait(log);
    cell.attention_seconds = cell.peak_mib = kNaN;
    cell.examples_per_s = median_examples_per_s(log);
    for (const auto& step : log.steps) cell.peak_mib = std::fmax(cell.peak_mib, step.peak_mib);
    cell.curve = log;
    place = cells.insert(place, std::move(cell));
  } else if (settings_of(place->recipe) != settings_of(cell.recipe)) {
    fail((run / "recipe.toml").string(), ": is of other settings than seed ",
         place->recipe.train.seed, ", expected the same, for a mean over both");
  }
  const auto test = std::find_if(log.evaluations.rbegin(), log.evaluations.rend(),
                                 [](const auto& e) { return e.split == "test"; });
  if (test == log.evaluations.rend()) {
    ++place->unfinished;
  } else {
    place->seeds.push_back(run.filename().string());
    place->accuracies.push_back(100 * test->accuracy);
  }
}

bool is_none(const Cell& cell) { return cell.recipe.model.encoder.attention.kind == "none"; }

// By the longest run of kind none at the same pace.
void split_steps(std::vector<Cell>& cells) {
  for (Cell& cell : cells) {
    const Cell* longest = is_none(cell) ? &cell : nullptr;
    for (const Cell& other : cells) {
      if (is_none(cell) || !is_none(other) || pace_of(cell) != pace_of(other)) continue;
      if (longest == nullptr || other.steps() > longest->steps()) longest = &other;
    }
    if (longest != nullptr) cell.attention_seconds = cell.step_seconds - longest->step_seconds;
  }
}

}  // namespace

std::vector<std::string> task_names() {
  std::vector<std::string> names;
  for (const TaskSteps& task : kTasks) names.emplace_back(task.name);
  return names;
}

void write_origin(const fs::path& run, const std::string& device, const std::string& command) {
  std::string devices = read_origin(run).device;
  if (!devices.ends_with(device)) devices += (devices.empty() ? "" : ", then ") + device;
  FileWriter file((run / "lra.json").string());
  // Bytes of the command line that are no UTF-8 are replaced.
  file.write(nlohmann::json{{"device", devices}, {"command", command}}.dump(
                 2, ' ', false, nlohmann::json::error_handler_t::replace) +
             "\n");
  file.commit();
}

double Cell::mean() const {
  double sum = 0;
  for (const double a : accuracies) sum += a;
  return accuracies.empty() ? kNaN : sum / static_cast<double>(accuracies.size());
}

double Cell::deviation() const {
  if (accuracies.size() < 2) return kNaN;
  double squares = 0;
  for (const double a : accuracies) squares += (a - mean()) * (a - mean());
  return std::sqrt(squares / static_cast<double>(accuracies.size() - 1));
}

double Cell::rest_seconds() const { return step_seconds - attention_seconds - input_seconds; }

double Cell::shortened() const {
  for (const TaskSteps& known : kTasks)
    if (task == known.name) return static_cast<double>(known.steps) / static_cast<double>(steps());
  return 1;
}

std::string Cell::precision() const {
  return recipe.train.mixed_precision == Precision::kBFloat16 ? "bfloat16" : "float32";
}

std::string Cell::row() const {
  return precision() == "float32" ? method : method + ", " + precision();
}

std::string Cell::share() const {
  return join("1/", format_number(shortened()), ": ", format_number(static_cast<double>(steps())),
              " steps");
}

std::string Cell::name() const { return is_partial() ? row() + ", " + share() : row(); }

std::vector<Cell> read_results(const fs::path& folder) {
  std::vector<Cell> cells;
  for (const std::string& task : task_names()) {
    for (const fs::path& method : folders_in(folder / task))
      for (const fs::path& run : folders_in(method))
        if (fs::exists(run / "run.jsonl")) add_run(run, cells);
  }
  if (cells.empty())
    fail(folder.string(), ": has no runs, expected what yoso lra run writes, TASK/METHOD/SEED");
  split_steps(cells);
  return cells;
}

}  // namespace yoso::lra
