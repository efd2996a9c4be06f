// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/lra_report.h"

#include <cmath>
#include <cstdio>
#include <set>

#include "yoso/cli/chart.h"
#include "yoso/cli/lra_published.h"
#include "yoso/cli/tables.h"
#include "yoso/core/check.h"

namespace yoso::lra {
namespace {

std::string fixed(double value) {
  if (!std::isfinite(value)) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

std::string or_dash(const std::string& text) { return text.empty() ? "-" : text; }

// "39.12 ± 0.40 (3)", the number of runs in brackets.
std::string accuracy_text(const Cell& cell) {
  std::string text = fixed(cell.mean());
  if (cell.accuracies.empty()) text = "unfinished";
  if (cell.accuracies.size() > 1) text += " ± " + fixed(cell.deviation());
  if (!cell.accuracies.empty()) text += join(" (", cell.accuracies.size(), ")");
  return text;
}

// Full runs, partial ones under their share, published ones as "[37.1]".
std::string accuracies_text(const std::vector<Cell>& cells, const std::string& task,
                            const std::string& row, const std::string& method) {
  std::string text;
  for (const Cell& cell : cells) {
    if (cell.task != task || cell.row() != row) continue;
    if (!text.empty()) text += "; ";
    if (cell.is_partial()) text += cell.share() + ": ";
    text += accuracy_text(cell);
  }
  if (text.empty()) text = "not run";
  const auto others = published(task, method);
  return others.empty() ? text : join(text, " [", others.front().accuracy, "]");
}

TextTable accuracy_table(const std::vector<Cell>& cells) {
  TextTable rows = {{"method"}};
  std::set<std::pair<std::string, std::string>> names;
  for (const Cell& cell : cells) names.insert({cell.row(), cell.method});
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
         cell.is_partial() ? cell.share() : format_number(static_cast<double>(cell.steps())),
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
