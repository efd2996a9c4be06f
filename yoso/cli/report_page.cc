// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/report_page.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "yoso/cli/bench_results.h"
#include "yoso/cli/chart.h"
#include "yoso/cli/tables.h"
#include "yoso/core/check.h"

namespace yoso {
namespace {

using Step = RunLog::Step;
using Evaluation = RunLog::Evaluation;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
// Points of a loss curve: neighbouring steps are averaged, single batches are noise.
constexpr size_t kCurvePoints = 80;

std::string percent(double share) {
  return std::isfinite(share) ? format_number(100 * share) + " %" : "-";
}

// Mean x and y of groups of neighbours.
Series averaged(const RunLog& run, double Step::*x, double Step::*y) {
  Series series{run.name, {}, {}};
  const size_t size = std::max<size_t>(1, (run.steps.size() + kCurvePoints - 1) / kCurvePoints);
  for (size_t begin = 0; begin < run.steps.size(); begin += size) {
    const size_t end = std::min(begin + size, run.steps.size());
    double x_sum = 0, y_sum = 0;
    for (size_t i = begin; i < end; ++i) x_sum += run.steps[i].*x, y_sum += run.steps[i].*y;
    series.x.push_back(x_sum / static_cast<double>(end - begin));
    series.y.push_back(y_sum / static_cast<double>(end - begin));
  }
  return series;
}

Series dev_accuracy(const RunLog& run, double Evaluation::*x) {
  Series series{run.name, {}, {}};
  for (const Evaluation& evaluation : run.evaluations) {
    if (evaluation.split != "dev") continue;
    series.x.push_back(evaluation.*x);
    series.y.push_back(evaluation.accuracy);
  }
  return series;
}

Chart accuracy_chart(const std::vector<RunLog>& runs, const char* x_label, double Evaluation::*x) {
  Chart chart{join("Dev accuracy by ", x_label), {x_label}, {"accuracy"}, {}};
  for (const RunLog& run : runs) chart.series.push_back(dev_accuracy(run, x));
  return chart;
}

Chart loss_chart(const std::vector<RunLog>& runs, const char* x_label, double Step::*x) {
  Chart chart{join("Training loss by ", x_label), {x_label}, {"loss"}, {}};
  for (const RunLog& run : runs) chart.series.push_back(averaged(run, x, &Step::loss));
  return chart;
}

double median(const std::vector<Step>& steps, double Step::*value) {
  std::vector<double> values;
  for (const Step& step : steps) values.push_back(step.*value);
  return yoso::median(std::move(values));
}

double highest(const std::vector<Step>& steps, double Step::*value) {
  double high = kNaN;
  for (const Step& step : steps) high = std::fmax(high, step.*value);
  return high;
}

// The evaluation with the highest accuracy on `split`; null when there is none.
const Evaluation* best(const RunLog& run, const char* split) {
  const Evaluation* found = nullptr;
  for (const Evaluation& evaluation : run.evaluations) {
    if (evaluation.split != split || !std::isfinite(evaluation.accuracy)) continue;
    if (found == nullptr || evaluation.accuracy > found->accuracy) found = &evaluation;
  }
  return found;
}

std::string runs_table(const std::vector<RunLog>& runs) {
  TextTable table = {{"run", "best dev accuracy", "at step", "test accuracy", "steps", "seconds",
                      "tokens/s", "peak MiB", "loss at the end"}};
  for (const RunLog& run : runs) {
    const Evaluation* dev = best(run, "dev");
    const Evaluation* test = best(run, "test");
    const Series loss = averaged(run, &Step::step, &Step::loss);
    table.push_back({run.name, percent(dev ? dev->accuracy : kNaN),
                     format_number(dev ? dev->step : kNaN), percent(test ? test->accuracy : kNaN),
                     format_number(highest(run.steps, &Step::step)),
                     format_number(highest(run.steps, &Step::seconds)),
                     format_number(median(run.steps, &Step::tokens_per_s)),
                     format_number(highest(run.steps, &Step::peak_mib)),
                     format_number(loss.y.empty() ? kNaN : loss.y.back())});
  }
  return html_table(table);
}

std::string text_of(const nlohmann::json& row, const char* key) {
  const auto value = row.find(key);
  if (value == row.end() || value->is_null()) return "-";
  if (value->is_string()) return *value;
  return value->is_number() ? format_number(value->get<double>()) : value->dump();
}

std::string machine_line(const nlohmann::json& bench) {
  const nlohmann::json machine = bench.value("machine", nlohmann::json::object());
  return join(text_of(machine, "cpu"), ", ", text_of(machine, "cores"), " cores, SIMD level ",
              text_of(machine, "simd"), ", torch ", text_of(bench, "torch"), ", ",
              text_of(bench, "date"));
}

// Columns without a value in any row are left out.
std::string results_table(const nlohmann::json& results) {
  constexpr std::pair<const char*, const char*> kColumns[] = {
      {"part", "part"},
      {"tokens", "tokens"},
      {"pass", "pass"},
      {"dtype", "dtype"},
      {"input", "input"},
      {"batch", "batch"},
      {"heads", "heads"},
      {"width", "width"},
      {"hashes", "hashes"},
      {"bits", "bits"},
      {"threads", "threads"},
      {"median ms", "median_ms"},
      {"times faster than SDPA", "times_faster_than_sdpa"},
      {"than the fastest SDPA", "times_faster_than_fastest_sdpa"},
      {"times faster than softmax", "times_faster_than_softmax"},
      {"peak MiB", "peak_mib"},
      {"relative error", "relative_error"},
      {"cosine", "cosine"},
      {"left out", "left_out"}};
  TextTable table = {{"kind"}};
  for (const nlohmann::json& row : results) table.push_back({kind_of(row)});
  for (const auto& [head, key] : kColumns) {
    const auto has_value = [key = key](const nlohmann::json& row) {
      return row.contains(key) && !row[key].is_null();
    };
    if (std::none_of(results.begin(), results.end(), has_value)) continue;
    table[0].push_back(head);
    for (size_t i = 0; i < results.size(); ++i) table[i + 1].push_back(text_of(results[i], key));
  }
  return html_table(table);
}

}  // namespace

std::string report_page(const Report& report) {
  std::string text = paragraph(report.date + ", " + report.machine);
  if (!report.runs.empty()) {
    text += "<h2>Training</h2>\n" + runs_table(report.runs) +
            svg({accuracy_chart(report.runs, "step", &Evaluation::step),
                 accuracy_chart(report.runs, "seconds", &Evaluation::seconds),
                 loss_chart(report.runs, "step", &Step::step),
                 loss_chart(report.runs, "seconds", &Step::seconds)}) +
            paragraph(
                "Seconds are wall-clock time. Points of the loss are means of neighbouring "
                "steps.");
  }
  for (const nlohmann::json& bench : report.benches) {
    text +=
        "<h2>Attention</h2>\n" + paragraph(machine_line(bench)) + "<p><code>" +
        escape_markup(text_of(bench, "command")) + "</code></p>\n" +
        svg(bench_charts(bench["results"])) + results_table(bench["results"]) +
        paragraph(
            "Each time is the median of several runs. SDPA is torch's "
            "scaled_dot_product_attention of the "
            "same dtype, measured in the same process; the fastest SDPA is the faster of "
            "float32 and bfloat16. Softmax is the attention kind, in the same part. A dash was not measured.");
  }
  return html_page("YOSO report", "YOSO attention", text);
}

std::string report_figure(const Report& report) {
  std::vector<Chart> charts;
  for (const nlohmann::json& bench : report.benches) {
    for (Chart& chart : bench_charts(bench["results"]))
      if (chart.y.label == kMilliseconds) charts.push_back(std::move(chart));
  }
  if (!report.runs.empty()) {
    // Beside a learning curve one time chart says enough: the last is forward + backward.
    if (!charts.empty()) charts.erase(charts.begin(), charts.end() - 1);
    charts.insert(charts.begin(), accuracy_chart(report.runs, "seconds", &Evaluation::seconds));
  }
  return svg(charts);
}

}  // namespace yoso
