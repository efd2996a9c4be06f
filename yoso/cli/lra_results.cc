// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/lra_results.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <set>

#include "yoso/cli/chart.h"
#include "yoso/core/check.h"

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

// Evaluations fall on few steps: the median is of steps alone.
double median_step(const RunLog& log) {
  std::vector<double> seconds;
  for (size_t i = 1; i < log.steps.size(); ++i) {
    const double took = log.steps[i].seconds - log.steps[i - 1].seconds;
    if (std::isfinite(took)) seconds.push_back(took);
  }
  if (seconds.empty()) return kNaN;
  const auto middle = seconds.begin() + std::ssize(seconds) / 2;
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

Cell read_cell(const fs::path& folder) {
  Cell cell;
  cell.task = folder.parent_path().filename().string();
  cell.method = folder.filename().string();
  cell.seconds_per_1000_steps = cell.peak_mib = kNaN;
  bool first = true;
  for (const fs::path& run : folders_in(folder)) {
    if (!fs::exists(run / "run.jsonl")) continue;
    RunLog log = read_run_log(run);
    const auto test = std::find_if(log.evaluations.rbegin(), log.evaluations.rend(),
                                   [](const auto& e) { return e.split == "test"; });
    if (test == log.evaluations.rend()) {
      ++cell.unfinished;
    } else {
      cell.seeds.push_back(run.filename().string());
      cell.accuracies.push_back(100 * test->accuracy);
    }
    for (const auto& step : log.steps) cell.peak_mib = std::fmax(cell.peak_mib, step.peak_mib);
    if (!first) continue;
    first = false;
    cell.seconds_per_1000_steps = 1000 * median_step(log);
    cell.curve = std::move(log);
    cell.curve.name = cell.method;
  }
  return cell;
}

std::string fixed(double value) {
  if (!std::isfinite(value)) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

// "39.12 ± 0.40 (3)", the number of runs in brackets; published ones as "[37.1]".
std::string accuracy_text(const Cell* cell, const std::string& task, const std::string& method) {
  std::string text = "not run";
  if (cell != nullptr && cell->accuracies.empty()) text = "unfinished";
  if (cell != nullptr && !cell->accuracies.empty()) {
    text = fixed(cell->mean());
    if (cell->accuracies.size() > 1) text += " ± " + fixed(cell->deviation());
    text += join(" (", cell->accuracies.size(), ")");
  }
  if (const auto other = published(task, method)) text += join(" [", other->accuracy, "]");
  return text;
}

using Rows = std::vector<std::vector<std::string>>;

// The tables of a report: first row and column are heads.
struct Tables {
  Rows accuracy, seconds, memory;
};

Tables tables_of(const std::vector<Cell>& cells) {
  std::map<std::pair<std::string, std::string>, const Cell*> by_name;
  std::set<std::string> methods;
  for (const Cell& cell : cells) {
    by_name[{cell.task, cell.method}] = &cell;
    methods.insert(cell.method);
  }
  std::vector<std::string> head = {"method"};
  head.insert(head.end(), std::begin(kTasks), std::end(kTasks));
  Tables tables{{head}, {head}, {head}};
  for (const std::string& method : methods) {
    for (Rows* rows : {&tables.accuracy, &tables.seconds, &tables.memory})
      rows->push_back({method});
    for (const std::string task : kTasks) {
      const auto found = by_name.find({task, method});
      const Cell* cell = found == by_name.end() ? nullptr : found->second;
      tables.accuracy.back().push_back(accuracy_text(cell, task, method));
      tables.seconds.back().push_back(format_number(cell ? cell->seconds_per_1000_steps : kNaN));
      tables.memory.back().push_back(format_number(cell ? cell->peak_mib : kNaN));
    }
  }
  return tables;
}

constexpr const char* kAccuracyTitle = "Test accuracy, %";
constexpr const char* kAccuracyNote =
    "Mean over runs with different seeds, the deviation of a sample, the number of runs in round "
    "brackets. In square brackets: published under the same protocol (two layers, 64 wide), from "
    "Primal-Attention (NeurIPS 2023), table 3, and for bigbird from Skyformer (NeurIPS 2021), "
    "table "
    "1. Each run is judged on test with the weights that were best on dev.";
constexpr const char* kSecondsTitle = "Seconds per 1,000 training steps";
constexpr const char* kSecondsNote = "The median step of the first run, without evaluations.";
constexpr const char* kMemoryTitle = "Peak memory, MiB";
constexpr const char* kMemoryNote = "Of the GPU, or of the whole process where there is none.";

std::string markdown_table(const Rows& rows) {
  std::string text;
  for (size_t i = 0; i < rows.size(); ++i) {
    text += "|";
    for (const std::string& cell : rows[i]) text += " " + cell + " |";
    text += "\n";
    if (i > 0) continue;
    text += "|";
    for (size_t column = 0; column < rows[i].size(); ++column) text += column ? "---:|" : "---|";
    text += "\n";
  }
  return text;
}

std::string html_table(const Rows& rows) {
  std::string text = "<div class=\"wide\"><table>\n";
  for (size_t i = 0; i < rows.size(); ++i) {
    const char* tag = i == 0 ? "th" : "td";
    text += "<tr>";
    for (const std::string& cell : rows[i])
      text += join("<", tag, ">", escape_markup(cell), "</", tag, ">");
    text += "</tr>\n";
  }
  return text + "</table></div>\n";
}

// A chart a task, of one series a method.
template <class MakeSeries>
std::vector<Chart> charts(const std::vector<Cell>& cells, const std::string& title, const Axis& x,
                          MakeSeries&& make_series) {
  std::vector<Chart> all;
  for (const std::string task : kTasks) {
    Chart chart{task + ": " + title, x, {"accuracy, %"}, {}};
    for (const Cell& cell : cells) {
      if (cell.task != task) continue;
      Series series = make_series(cell);
      if (!series.x.empty()) chart.series.push_back(std::move(series));
    }
    if (!chart.series.empty()) all.push_back(std::move(chart));
  }
  return all;
}

}  // namespace

std::optional<Published> published(std::string_view task, std::string_view method) {
  constexpr const char* kPrimal = "Primal-Attention (NeurIPS 2023), table 3";
  constexpr const char* kSkyformer = "Skyformer (NeurIPS 2021), table 1";
  struct Row {
    std::string_view method;
    double accuracies[5];  // in the order of kTasks
    const char* source;
  };
  static constexpr Row kRows[] = {
      {"softmax", {37.1, 65.0, 79.4, 38.2, 74.2}, kPrimal},
      {"reformer", {19.1, 64.9, 78.6, 43.3, 69.4}, kPrimal},
      {"performer", {18.8, 63.8, 78.6, 37.1, 69.9}, kPrimal},
      {"linformer", {37.3, 55.9, 79.4, 37.8, 67.6}, kPrimal},
      {"nystrom", {37.2, 65.5, 79.6, 41.6, 70.9}, kPrimal},
      {"longformer", {37.2, 64.6, 81.0, 39.1, 73.0}, kPrimal},
      {"yoso_expected", {37.3, 64.7, 81.2, 39.8, 72.9}, kPrimal},
      {"bigbird", {39.25, 63.86, 80.28, 43.16, 68.72}, kSkyformer},
  };
  const auto place = std::find(std::begin(kTasks), std::end(kTasks), task) - std::begin(kTasks);
  for (const Row& row : kRows) {
    if (row.method == method && place < std::ssize(row.accuracies))
      return Published{row.accuracies[place], row.source};
  }
  return std::nullopt;
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

std::vector<Cell> read_results(const fs::path& folder) {
  std::vector<Cell> cells;
  for (const std::string task : kTasks) {
    for (const fs::path& method : folders_in(folder / task)) {
      Cell cell = read_cell(method);
      if (!cell.accuracies.empty() || cell.unfinished > 0) cells.push_back(std::move(cell));
    }
  }
  if (cells.empty())
    fail(folder.string(), ": has no runs, expected what yoso lra run writes, TASK/METHOD/SEED");
  return cells;
}

std::string markdown(const std::vector<Cell>& cells) {
  const Tables tables = tables_of(cells);
  const auto section = [](const char* title, const Rows& rows, const char* note) {
    return join("### ", title, "\n\n", markdown_table(rows), "\n", note, "\n");
  };
  return section(kAccuracyTitle, tables.accuracy, kAccuracyNote) + "\n" +
         section(kSecondsTitle, tables.seconds, kSecondsNote) + "\n" +
         section(kMemoryTitle, tables.memory, kMemoryNote);
}

nlohmann::json json(const std::vector<Cell>& cells) {
  const auto number = [](double value) {
    return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json();
  };
  auto all = nlohmann::json::array();
  for (const Cell& cell : cells) {
    nlohmann::json item = {{"task", cell.task},
                           {"method", cell.method},
                           {"seeds", cell.seeds},
                           {"accuracies", cell.accuracies},
                           {"unfinished", cell.unfinished},
                           {"mean", number(cell.mean())},
                           {"deviation", number(cell.deviation())},
                           {"seconds_per_1000_steps", number(cell.seconds_per_1000_steps)},
                           {"peak_mib", number(cell.peak_mib)}};
    if (const auto other = published(cell.task, cell.method))
      item["published"] = {{"accuracy", other->accuracy}, {"source", other->source}};
    all.push_back(std::move(item));
  }
  return all;
}

std::string page(const std::vector<Cell>& cells, const std::string& machine) {
  constexpr const char* kStyle =
      ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;"
      "margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;margin:1rem 0;"
      "font-variant-numeric:tabular-nums}th,td{padding:.25rem .7rem;border-bottom:1px solid "
      "#8888;text-align:right;white-space:nowrap}th:first-child,td:first-child{text-align:left}"
      ".wide{overflow-x:auto}svg{max-width:100%;height:auto}";
  const Tables tables = tables_of(cells);
  const auto section = [](const char* title, const Rows& rows, const char* note) {
    return join("<h2>", title, "</h2>\n", html_table(rows), "<p>", escape_markup(note), "</p>\n");
  };
  const auto speed = charts(cells, "accuracy against speed",
                            {"seconds per 1,000 steps", Scale::kLog}, [](const Cell& c) {
                              if (c.accuracies.empty()) return Series{c.method, {}, {}};
                              return Series{c.method, {c.seconds_per_1000_steps}, {c.mean()}};
                            });
  const auto curves = charts(cells, "on dev", {"step"}, [](const Cell& c) {
    Series series{c.method, {}, {}};
    for (const auto& e : c.curve.evaluations) {
      if (e.split != "dev") continue;
      series.x.push_back(e.step);
      series.y.push_back(100 * e.accuracy);
    }
    return series;
  });
  return join(
      "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\n<meta "
      "name=\"viewport\" content=\"width=device-width\">\n<title>Long Range "
      "Arena</title>\n<style>",
      kStyle, "</style></head>\n<body>\n<h1>Long Range Arena</h1>\n<p>", escape_markup(machine),
      "</p>\n", section(kAccuracyTitle, tables.accuracy, kAccuracyNote),
      speed.empty() ? "" : svg(speed), curves.empty() ? "" : svg(curves),
      section(kSecondsTitle, tables.seconds, kSecondsNote),
      section(kMemoryTitle, tables.memory, kMemoryNote), "</body>\n</html>\n");
}

}  // namespace yoso::lra
