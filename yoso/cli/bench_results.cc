// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/bench_results.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "yoso/core/check.h"
#include "yoso/core/file.h"

namespace yoso {
namespace {

using Json = nlohmann::json;

constexpr const char* kTexts[] = {"kind", "device", "dtype", "pass"};
constexpr const char* kCounts[] = {"tokens", "heads", "width", "threads"};
constexpr const char* kMeasures[] = {"median_ms", "peak_mib"};

void check_row(const std::string& place, const Json& row) {
  if (!row.is_object()) fail(place, " is ", row.type_name(), ", expected an object");
  const auto check = [&](const char* key, bool (*accepts)(const Json&), const char* expected) {
    const auto value = row.find(key);
    if (value == row.end()) fail(place, ".", key, " is missing, expected ", expected);
    if (!accepts(*value)) fail(place, ".", key, " is ", value->dump(), ", expected ", expected);
  };
  for (const char* key : kTexts)
    check(
        key, [](const Json& v) { return v.is_string(); }, "a text");
  for (const char* key : kCounts)
    check(
        key, [](const Json& v) { return v.is_number_integer() && v > 0; }, "a positive integer");
  for (const char* key : kMeasures)
    check(
        key, [](const Json& v) { return v.is_number() || v.is_null(); }, "a number or null");
  if (row.contains("part"))
    check(
        "part", [](const Json& v) { return v.is_string(); }, "a text");
  check(
      "mode", [](const Json& v) { return v.is_string() || v.is_null(); }, "a text or null");
}

// Whatever differs among the rows.
std::string label(const Json& row, const std::vector<const char*>& differing) {
  std::string text;
  for (const char* key : differing) {
    const Json value = std::string(key) == "kind" ? Json(kind_of(row)) : row.value(key, Json());
    if (value.is_null()) continue;
    if (!text.empty()) text += " ";
    text += value.is_string() ? value.get<std::string>() : join(key, " ", value.dump());
  }
  return text;
}

Chart by_length(const Json& rows, const std::vector<const char*>& differing, std::string title,
                Axis y, const char* key) {
  Chart chart{std::move(title), {"tokens", Scale::kLog2}, std::move(y), {}};
  for (const Json& row : rows) {
    const std::string name = label(row, differing);
    auto series = std::find_if(chart.series.begin(), chart.series.end(),
                               [&](const Series& s) { return s.name == name; });
    if (series == chart.series.end()) series = chart.series.insert(series, Series{name, {}, {}});
    const double x = number_of(row, "tokens");
    const auto at = std::upper_bound(series->x.begin(), series->x.end(), x) - series->x.begin();
    series->x.insert(series->x.begin() + at, x);
    series->y.insert(series->y.begin() + at, number_of(row, key));
  }
  return chart;
}

// Whether some length comes in batches of several sizes.
bool several_batches(const Json& rows) {
  std::map<Json, Json> batch_of;
  for (const Json& row : rows) {
    const Json batch = row.value("batch", Json());
    if (batch_of.emplace(row["tokens"], batch).first->second != batch) return true;
  }
  return false;
}

bool has_points(const Chart& chart) {
  return std::any_of(chart.series.begin(), chart.series.end(), [](const Series& series) {
    return std::any_of(series.y.begin(), series.y.end(), [](double y) { return y > 0; });
  });
}

}  // namespace

nlohmann::json read_bench(const std::filesystem::path& path) {
  const std::string text = read_text(path);
  Json document;
  try {
    document = Json::parse(text);
  } catch (const Json::parse_error& error) {
    const std::string before = text.substr(0, error.byte);
    fail(path.string(), ":", 1 + std::count(before.begin(), before.end(), '\n'),
         ": is not JSON from byte ", error.byte, ", expected what yoso bench writes");
  } catch (const Json::out_of_range&) {
    fail(path.string(), ": has a number beyond all bounds, expected what yoso bench writes");
  }
  if (!document.is_object() || !document.contains("results") || !document["results"].is_array())
    fail(path.string(), ": has no array 'results', expected what yoso bench writes");
  for (size_t i = 0; i < document["results"].size(); ++i)
    check_row(join(path.string(), ": results[", i, "]"), document["results"][i]);
  return document;
}

double number_of(const Json& row, const char* key) {
  const auto value = row.find(key);
  const bool known = value != row.end() && value->is_number();
  return known ? value->get<double>() : std::numeric_limits<double>::quiet_NaN();
}

std::string kind_of(const Json& row) {
  const auto mode = row.find("mode");
  return mode != row.end() && mode->is_string() ? *mode : row["kind"];
}

namespace {

// Of rows of one part.
std::vector<Chart> part_charts(const Json& results) {
  double threads = 0;
  for (const Json& row : results) threads = std::max(threads, number_of(row, "threads"));
  Json shown = Json::array();
  for (const Json& row : results)
    if (number_of(row, "threads") == threads) shown.push_back(row);

  std::vector<const char*> differing;
  std::set<std::string> kinds;
  for (const Json& row : shown) kinds.insert(kind_of(row));
  for (const char* key :
       {"dtype", "input", "bits_rule", "hashes", "heads", "width", "batch", "device"}) {
    if (std::string(key) == "batch" && !several_batches(shown)) continue;
    std::set<Json> values;
    for (const Json& row : shown)
      if (row.contains(key) && !row[key].is_null()) values.insert(row[key]);
    if (values.size() > 1) differing.push_back(key);
  }
  if (kinds.size() > 1 || differing.empty()) differing.insert(differing.begin(), "kind");
  const auto rows_with = [&](const char* key, const char* value) {
    Json rows = Json::array();
    for (const Json& row : shown)
      if (row.contains(key) && row[key] == value) rows.push_back(row);
    return rows;
  };

  const bool on_cpu = shown.empty() || shown[0].value("device", "cpu") == "cpu";
  const std::string suffix =
      on_cpu ? join(", ", threads, threads == 1 ? " thread" : " threads") : std::string(", GPU");
  const Axis time{kMilliseconds, Scale::kLog};
  const Json forward = rows_with("pass", "forward"), both = rows_with("pass", "forward+backward");
  std::vector<Chart> charts = {
      by_length(forward, differing, "Forward" + suffix, time, "median_ms"),
      by_length(both, differing, "Forward + backward" + suffix, time, "median_ms"),
      by_length(both.empty() ? forward : both, differing,
                both.empty() ? "Peak memory, forward" : "Peak memory, forward + backward",
                {"MiB beyond the inputs", Scale::kLog}, "peak_mib"),
      by_length(rows_with("mode", "sampled"), differing,
                "Error of the sample against the expectation",
                {"relative error (Frobenius)", Scale::kLog}, "relative_error")};
  std::erase_if(charts, [](const Chart& chart) { return !has_points(chart); });
  return charts;
}

}  // namespace

std::vector<Chart> bench_charts(const Json& results) {
  std::map<std::string, Json> parts;
  for (const Json& row : results) parts[row.value("part", "")].push_back(row);
  std::vector<Chart> all;
  for (const auto& [part, rows] : parts) {
    for (Chart& chart : part_charts(rows)) {
      if (!part.empty()) chart.title = part + ": " + chart.title;
      all.push_back(std::move(chart));
    }
  }
  return all;
}

}  // namespace yoso
