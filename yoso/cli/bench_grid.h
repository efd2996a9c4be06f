// Many measurements: every combination of what a user lists, beside torch's SDPA.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <iosfwd>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "yoso/cli/bench_case.h"

namespace yoso {

struct BenchGrid {
  std::vector<int64_t> tokens;
  std::vector<std::string> kinds, dtypes = {"float32"}, inputs = {"iid"}, passes, bits = {"8"};
  std::vector<int64_t> threads;
  int64_t heads = 12, width = 64, batch = 1, hashes = 32, backward_hashes = 0;
  int64_t tokens_total = 0;  // 0, or the tokens that make up a batch: batch is not read then
  at::Device device = at::kCPU;
  Effort effort;
  // Softmax and expected attention are left out where a run would take longer, judged from a
  // shorter one.
  double skip_slower_than = 60;
  bool peers = true;  // time SDPA in float32 and bfloat16 for the ratios
  bool error = true;  // measure the error against the expectation
};

// Throws Error when an option is out of range, or when attention disagrees with its reference.
// Writes a table to `out`, a line as soon as it is known, and announces long runs on `log`.
// Returns the array `results` of bench_results.h.
nlohmann::json run_grid(const BenchGrid& grid, std::ostream& out, std::ostream& log);

// The document around results of `yoso bench SUBCOMMAND`; `device` as device_names() names it.
nlohmann::json bench_document(const std::string& subcommand, const std::string& device,
                              const nlohmann::json& results);

}  // namespace yoso
