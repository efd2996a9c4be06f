// A report as one self-contained HTML page: training runs side by side, benchmarks.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "yoso/cli/run_log.h"

namespace yoso {

struct Report {
  std::vector<RunLog> runs;
  std::vector<nlohmann::json> benches;  // as read_bench() gives them
  std::string date, machine;            // of the report
};

std::string report_page(const Report& report);

// The figure of the README: dev accuracy by time, attention time by length.
std::string report_figure(const Report& report);

}  // namespace yoso
