// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/lra_results.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <set>

#include "yoso/cli/chart.h"
#include "yoso/cli/lra_published.h"
#include "yoso/cli/tables.h"
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

std::string fixed(double value) {
  if (!std::isfinite(value)) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

std::string or_dash(const std::string& text) { return text.empty() ? "-" : text; }

// "1/8: 4,375 steps"
std::string share_text(const Cell& cell) {
  return join("1/", format_number(cell.shortened()), ": ",
              format_number(static_cast<double>(cell.steps())), " steps");
}

// "39.12 ± 0.40 (3)", the number of runs in brackets.
std::string accuracy_text(const Cell& cell) {
  std::string text = fixed(cell.mean());
  if (cell.accuracies.empty()) text = "unfinished";
  if (cell.accuracies.size() > 1) text += " ± " + fixed(cell.deviation());
  if (!cell.accuracies.empty()) text += join(" (", cell.accuracies.size(), ")");
  return text;
}

// The method without what differs within a row of the accuracies.
std::string row_name(const Cell& cell) {
  return cell.precision() == "float32" ? cell.method : cell.method + ", " + cell.precision();
}

// Full runs, partial ones under their share, published ones as "[37.1]".
std::string accuracies_text(const std::vector<Cell>& cells, const std::string& task,
                            const std::string& row, const std::string& method) {
  std::string text;
  for (const Cell& cell : cells) {
    if (cell.task != task || row_name(cell) != row) continue;
    if (!text.empty()) text += "; ";
    if (cell.is_partial()) text += share_text(cell) + ": ";
    text += accuracy_text(cell);
  }
  if (text.empty()) text = "not run";
  const auto others = published(task, method);
  return others.empty() ? text : join(text, " [", others.front().accuracy, "]");
}

TextTable accuracy_table(const std::vector<Cell>& cells) {
  TextTable rows = {{"method"}};
  std::set<std::pair<std::string, std::string>> names;
  for (const Cell& cell : cells) names.insert({row_name(cell), cell.method});
  for (const TaskSteps& task : kTasks) rows[0].push_back(task.name);
  for (const auto& [row, method] : names) {
    rows.push_back({row});
    for (const TaskSteps& task : kTasks)
      rows.back().push_back(accuracies_text(cells, task.name, row, method));
  }
  return rows;
}

TextTable runs_table(const std::vector<Cell>& cells) {
  TextTable rows = {{"task", "method", "precision", "steps", "accuracy", "all, s", "attention, s",
                     "rest, s", "input, s", "examples/s", "peak MiB", "device", "date"}};
  for (const Cell& cell : cells) {
    const auto thousand = [](double seconds) { return format_number(1000 * seconds); };
    rows.push_back(
        {cell.task, cell.method, cell.precision(),
         cell.is_partial() ? share_text(cell) : format_number(static_cast<double>(cell.steps())),
         accuracy_text(cell), thousand(cell.step_seconds), thousand(cell.attention_seconds),
         thousand(cell.rest_seconds()), thousand(cell.input_seconds),
         format_number(cell.examples_per_s), format_number(cell.peak_mib), or_dash(cell.device),
         or_dash(cell.date)});
  }
  return rows;
}

TextTable published_table() {
  TextTable rows = {{"method"}};
  for (int i = 0; i < kPublishedTasks; ++i) rows[0].push_back(kTasks[i].name);
  rows[0].insert(rows[0].end(), {"average", "source"});
  for (const PublishedRow& row : published_rows()) {
    rows.push_back({std::string(row.method)});
    for (const double accuracy : row.accuracies) rows.back().push_back(fixed(accuracy));
    rows.back().insert(rows.back().end(), {fixed(row.average), row.source->name});
  }
  return rows;
}

std::string protocols() {
  std::string text = "Protocols: ";
  const Source* last = nullptr;
  for (const PublishedRow& row : published_rows()) {
    if (row.source != last)
      text += join(last ? "; " : "", row.source->name, ": ", row.source->protocol);
    last = row.source;
  }
  return text + ". Averages are the sources' own.";
}

std::string commands(const std::vector<Cell>& cells) {
  std::set<std::string> all;
  for (const Cell& cell : cells)
    if (!cell.command.empty()) all.insert(cell.command);
  std::string text;
  for (const std::string& command : all) text += (text.empty() ? " Made by: " : "; ") + command;
  return text;
}

struct Section {
  const char* title;
  TextTable rows;
  std::string note;
};

std::vector<Section> sections(const std::vector<Cell>& cells) {
  return {
      {"Test accuracy, %", accuracy_table(cells),
       "Mean over runs with different seeds, the deviation of a sample, the number of runs in "
       "round brackets. Partial runs, of fewer steps than the protocol's, stand under their share: "
       "1/K and the steps. In square brackets: published, by the first source below that has it. "
       "Each run is judged on test with the weights that were best on dev."},
      {"Speed and memory", runs_table(cells),
       std::string() +
           "Seconds are for 1,000 training steps, without evaluations: the median step of the first "
           "run. All is attention, rest and input together. Input is what a step waits for its "
           "batch. Attention is what the step takes longer "
           "than one of kind none in the same setting on the same device, rest all else. Examples/s "
           "are those of the median evaluation on dev. Memory is the GPU's, or the whole process's "
           "where there is none. Runs that shared a device were slowed by each other." +
           commands(cells)},
      {"Published", published_table(), protocols()}};
}

// A chart a task, of one series a cell.
template <class MakeSeries>
std::vector<Chart> charts(const std::vector<Cell>& cells, const std::string& title, const Axis& x,
                          MakeSeries&& make_series) {
  std::vector<Chart> all;
  for (const TaskSteps& task : kTasks) {
    Chart chart{join(task.name, ": ", title), x, {"accuracy, %"}, {}};
    for (const Cell& cell : cells) {
      if (cell.task != task.name) continue;
      Series series = make_series(cell);
      if (!series.x.empty()) chart.series.push_back(std::move(series));
    }
    if (!chart.series.empty()) all.push_back(std::move(chart));
  }
  return all;
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

std::string Cell::name() const {
  return is_partial() ? row_name(*this) + ", " + share_text(*this) : row_name(*this);
}

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

std::string markdown(const std::vector<Cell>& cells) {
  std::string text;
  for (const Section& section : sections(cells))
    text += join(text.empty() ? "" : "\n", "### ", section.title, "\n\n",
                 markdown_table(section.rows), "\n", section.note, "\n");
  return text;
}

nlohmann::json json(const std::vector<Cell>& cells) {
  const auto number = [](double value) {
    return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json();
  };
  auto all = nlohmann::json::array();
  for (const Cell& cell : cells) {
    auto others = nlohmann::json::array();
    for (const Published& other : published(cell.task, cell.method))
      others.push_back({{"accuracy", other.accuracy},
                        {"source", other.source->name},
                        {"protocol", other.source->protocol}});
    all.push_back({{"task", cell.task},
                   {"method", cell.method},
                   {"precision", cell.precision()},
                   {"steps", cell.steps()},
                   {"partial", cell.is_partial()},
                   {"shortened", cell.shortened()},
                   {"seeds", cell.seeds},
                   {"accuracies", cell.accuracies},
                   {"unfinished", cell.unfinished},
                   {"mean", number(cell.mean())},
                   {"deviation", number(cell.deviation())},
                   {"seconds_per_1000_steps", number(1000 * cell.step_seconds)},
                   {"attention_seconds", number(1000 * cell.attention_seconds)},
                   {"rest_seconds", number(1000 * cell.rest_seconds())},
                   {"input_seconds", number(1000 * cell.input_seconds)},
                   {"examples_per_s", number(cell.examples_per_s)},
                   {"peak_mib", number(cell.peak_mib)},
                   {"device", cell.device},
                   {"date", cell.date},
                   {"command", cell.command},
                   {"published", std::move(others)}});
  }
  return all;
}

std::string page(const std::vector<Cell>& cells, const std::string& machine) {
  const auto speed = charts(cells, "accuracy against speed",
                            {"seconds per 1,000 steps", Scale::kLog}, [](const Cell& c) {
                              if (c.accuracies.empty()) return Series{c.name(), {}, {}};
                              return Series{c.name(), {1000 * c.step_seconds}, {c.mean()}};
                            });
  const auto curves = charts(cells, "on dev", {"step"}, [](const Cell& c) {
    Series series{c.name(), {}, {}};
    for (const auto& e : c.curve.evaluations) {
      if (e.split != "dev") continue;
      series.x.push_back(e.step);
      series.y.push_back(100 * e.accuracy);
    }
    return series;
  });
  std::vector<std::string> parts;
  for (const Section& section : sections(cells))
    parts.push_back(
        join("<h2>", section.title, "</h2>\n", html_table(section.rows), paragraph(section.note)));
  for (const auto& drawn : {speed, curves})
    if (!drawn.empty()) parts.front() += svg(drawn);
  std::string body = paragraph(machine);
  for (const std::string& part : parts) body += part;
  return html_page("Long Range Arena", "Long Range Arena", body);
}

}  // namespace yoso::lra
