// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/run_log.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "yoso/core/check.h"

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

}  // namespace

RunLog read_run_log(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "run.jsonl";
  std::ifstream file(path);
  if (!file) fail(path.string(), ": cannot be read, expected the log of a run");
  const std::filesystem::path whole = std::filesystem::absolute(folder).lexically_normal();
  RunLog log;
  log.name = (whole.has_filename() ? whole : whole.parent_path()).filename().string();
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

double median(std::vector<double> values) {
  std::erase_if(values, [](double value) { return !std::isfinite(value); });
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace yoso
