// Many measurements: every combination of what a user lists, beside torch's SDPA.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <iosfwd>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "yoso/cli/bench_case.h"

namespace yoso {

// What all benchmarks by length have in common.
struct BenchLengths {
  std::vector<int64_t> tokens;
  std::vector<std::string> passes, dtypes = {"float32"};
  std::vector<int64_t> threads;
  int64_t heads = 12, width = 64, batch = 1;
  int64_t tokens_total = 0;  // 0, or the tokens that make up a batch: batch is not read then
  at::Device device = at::kCPU;
  Effort effort;
  // A method, softmax or expected attention is left out where a run would take longer, judged from
  // shorter ones.
  double skip_slower_than = 60;

  int64_t batch_of(int64_t length) const {
    return tokens_total == 0 ? batch : std::max<int64_t>(1, tokens_total / length);
  }
};

struct BenchGrid : BenchLengths {
  std::vector<std::string> kinds, inputs = {"iid"}, bits = {"8"};
  int64_t hashes = 32, backward_hashes = 0;
  bool peers = true;  // time SDPA in float32 and bfloat16 for the ratios
  bool error = true;  // measure the error against the expectation
};

// Throws Error when an option is out of range, or when attention disagrees with its reference.
// Writes a table to `out`, a line as soon as it is known, and announces long runs on `log`.
// Returns the array `results` of bench_results.h.
nlohmann::json run_grid(const BenchGrid& grid, std::ostream& out, std::ostream& log);

// A table that grows line by line; the first column is the kind.
class BenchTable {
 public:
  BenchTable(std::ostream& out, int kind_width) : out_(out), kind_width_(kind_width) {}

  void add_column(const char* head, int width, const char* key);
  void print_heads();
  // `row` of bench_results.h; says so when it was left out, and why if the row tells.
  void print(const nlohmann::json& row);

 private:
  struct Column {
    const char* head;
    int width;
    const char* key;
  };

  std::ostream& out_;
  int kind_width_;
  std::vector<Column> columns_;
};

// Runs that take longer than so many seconds are announced.
inline constexpr double kAnnounceSeconds = 5;

// The document around results of `yoso bench SUBCOMMAND`; `device` as device_names() names it.
nlohmann::json bench_document(const std::string& subcommand, const std::string& device,
                              const nlohmann::json& results);

}  // namespace yoso
