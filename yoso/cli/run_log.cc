// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/run_log.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "yoso/core/check.h"
#include "yoso/core/file.h"

namespace yoso {
namespace {

double number(const nlohmann::json& line, const char* key) {
  const auto value = line.find(key);
  if (value == line.end() || value->is_null()) return std::numeric_limits<double>::quiet_NaN();
  if (!value->is_number()) fail(key, " is ", value->dump(), ", expected a number");
  return value->get<double>();
}

void add_line(const nlohmann::json& line, RunLog* log) {
  if (!line.is_object()) fail("got ", line.type_name(), ", expected a JSON object");
  const double step = number(line, "step"), seconds = number(line, "seconds");
  if (line.contains("split")) {
    if (!line["split"].is_string()) fail("split is ", line["split"].dump(), ", expected a text");
    log->evaluations.push_back({line["split"], step, seconds, number(line, "loss"),
                                number(line, "accuracy"), number(line, "examples"),
                                number(line, "time")});
  } else if (std::isfinite(step) && line.contains("loss")) {
    log->steps.push_back({step, seconds, number(line, "loss"), number(line, "tokens_per_s"),
                          number(line, "peak_mib"), number(line, "input_s"), number(line, "time")});
  }
}

bool all_differ(const std::vector<std::string>& names) {
  return std::set(names.begin(), names.end()).size() == names.size();
}

// Of paths whose last parts coincide: the parts in which they differ, as few as tell them apart.
// Empty when none do, as for one folder given twice.
std::vector<std::string> differing_parts(std::vector<std::filesystem::path> paths) {
  std::vector<std::string> names(paths.size());
  while (std::any_of(paths.begin(), paths.end(), [](const auto& p) { return p.has_filename(); })) {
    std::vector<std::string> parts;
    for (std::filesystem::path& path : paths) {
      parts.push_back(path.filename().string());
      path = path.parent_path();
    }
    if (std::count(parts.begin(), parts.end(), parts[0]) == std::ssize(parts)) continue;
    for (size_t i = 0; i < names.size(); ++i)
      names[i] = parts[i] + (parts[i].empty() || names[i].empty() ? "" : "/") + names[i];
    if (all_differ(names)) return names;
  }
  return {};
}

}  // namespace

RunLog read_run_log(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "run.jsonl";
  std::ifstream file(path);
  if (!file) fail(path.string(), ": cannot be read, expected the log of a run");
  RunLog log;
  log.name = whole_path(folder).filename().string();
  int64_t count = 0;
  for (std::string text; std::getline(file, text);) {
    ++count;
    if (text.empty()) continue;
    const auto line = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (line.is_discarded()) {
      if (file.eof()) break;
      fail(path.string(), ":", count, ": got '", text.substr(0, 40), "', expected a JSON object");
    }
    try {
      add_line(line, &log);
    } catch (const Error& error) {
      fail(path.string(), ":", count, ": ", error.what());
    }
  }
  return log;
}

std::vector<RunLog> read_run_logs(const std::vector<std::string>& folders) {
  std::vector<RunLog> logs;
  std::vector<std::filesystem::path> paths;
  std::vector<std::string> names;
  for (const std::string& folder : folders) {
    logs.push_back(read_run_log(folder));
    paths.push_back(whole_path(folder));
    names.push_back(logs.back().name);
  }
  if (all_differ(names)) return logs;
  names = differing_parts(std::move(paths));
  for (size_t i = 0; i < names.size(); ++i) logs[i].name = names[i];
  return logs;
}

double median(std::vector<double> values) {
  std::erase_if(values, [](double value) { return !std::isfinite(value); });
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace yoso
