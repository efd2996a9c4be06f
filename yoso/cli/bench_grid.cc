// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/bench_grid.h"

#include <torch/version.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <iomanip>
#include <map>
#include <optional>
#include <ostream>
#include <set>
#include <utility>

#include "yoso/cli/bench_check.h"
#include "yoso/cli/bench_results.h"
#include "yoso/cli/machine.h"
#include "yoso/core/check.h"

namespace yoso {
namespace {

using Json = nlohmann::json;

// A run of so many tokens or more tells how long a longer one takes; fixed costs hide in shorter
// ones.
constexpr int64_t kProbeTokens = 2048;
// The error takes copies of keys and values in double: not of more rows than this.
constexpr int64_t kErrorRows = int64_t{1} << 22;

// T for a length: a number, or "log2" for log2 N rounded up.
std::pair<int64_t, std::string> code_bits(const std::string& rule, int64_t tokens) {
  if (rule == "log2") {
    int64_t bits = 1;
    while (bits < 16 && (int64_t{1} << bits) < tokens) ++bits;
    return {bits, "T = log2 N"};
  }
  int64_t bits = 0;
  const auto [end, fault] = std::from_chars(rule.data(), rule.data() + rule.size(), bits);
  if (fault != std::errc() || end != rule.data() + rule.size() || bits < 1 || bits > 16)
    fail("bench: --bits is '", rule, "', expected 1 to 16 or log2");
  return {bits, "T = " + rule};
}

// What of a case decides the time of SDPA, and what a series of lengths has in common.
std::string peer_key(const BenchCase& c) {
  return join(c.kind, " ", c.dtype, " ", c.tokens, " ", c.pass, " ", c.threads);
}
std::string series_key(const BenchCase& c) {
  return join(c.kind, " ", c.dtype, " ", c.input, " ", c.pass, " ", c.bits_rule, " ", c.threads);
}

Json number_or_null(std::optional<double> value) {
  return value && std::isfinite(*value) ? Json(*value) : Json(nullptr);
}

// Peak memory beyond inputs, output and gradients, for a token of a head; known on a GPU alone.
std::optional<double> extra_bytes_per_row(const BenchCase& c, const std::optional<Times>& times) {
  if (!times || !c.device.is_cuda()) return {};
  const int64_t results = c.with_backward() ? 4 : 1, size = c.dtype == "float32" ? 4 : 2;
  return times->peak_mib * (1 << 20) / static_cast<double>(c.batch * c.tokens * c.heads) -
         static_cast<double>(results * c.width * size);
}

class GridRun {
 public:
  GridRun(const BenchGrid& grid, std::ostream& out, std::ostream& log)
      : grid_(grid), out_(out), log_(log) {}

  Json run() {
    for (const std::string& rule : grid_.bits) code_bits(rule, 1);
    print_heads();
    for (const int64_t threads : grid_.threads)
      for (const std::string& pass : grid_.passes)
        for (const std::string& input : grid_.inputs)
          for (const int64_t tokens : grid_.tokens)
            for (const std::string& dtype : grid_.dtypes)
              for (const std::string& rule : grid_.bits)
                run_kinds(make_case(threads, pass, input, tokens, dtype, rule));
    return std::move(results_);
  }

 private:
  BenchCase make_case(int64_t threads, const std::string& pass, const std::string& input,
                      int64_t tokens, const std::string& dtype, const std::string& rule) const {
    BenchCase c;
    c.dtype = dtype, c.input = input, c.pass = pass;
    c.tokens = tokens, c.heads = grid_.heads, c.width = grid_.width;
    c.batch = grid_.batch_of(tokens);
    c.hashes = grid_.hashes, c.backward_hashes = grid_.backward_hashes, c.threads = threads,
    c.device = grid_.device;
    std::tie(c.bits, c.bits_rule) = code_bits(rule, tokens);
    return c;
  }

  void run_kinds(BenchCase c) {
    const BenchInputs inputs = make_inputs(c);
    for (const std::string& kind : grid_.kinds) {
      c.kind = kind;
      // Softmax knows no bits: once is enough.
      if (!c.is_yoso() && c.bits_rule != code_bits(grid_.bits[0], c.tokens).second) continue;
      check_once(c);
      const std::optional<Times> times =
          c.is_yoso() ? measure_unless_slow(c, [&] { return inputs; }) : peer(c, kind, c.dtype);
      add_row(c, times, inputs);
    }
  }

  void check_once(const BenchCase& c) {
    if (checked_.insert(join(c.kind, " ", c.dtype, " ", c.bits)).second) check_attention(c);
  }

  // Times of SDPA, or of a backend of it, in `dtype`; none when it was left out.
  std::optional<Times> peer(BenchCase c, const std::string& kind, const std::string& dtype) {
    c.kind = kind;
    c.dtype = dtype;
    if (kind != "softmax" && (dtype == "float32" || !c.device.is_cuda())) return {};  // has none
    const std::string key = peer_key(c);
    if (const auto known = peers_.find(key); known != peers_.end()) return known->second;
    try {
      return peers_[key] = measure_unless_slow(c, [&] { return make_inputs(c); });
    } catch (const c10::Error& error) {  // a backend that is not there, or memory that is short
      const std::string message = error.what_without_backtrace();
      log_ << "left out: " << kind << " " << dtype << " " << c.pass << " of " << c.tokens
           << " tokens: " << message.substr(0, message.find('\n')) << std::endl;
      return peers_[key] = {};
    }
  }

  // The shortest time of SDPA in any type or by any backend.
  std::optional<double> fastest_peer_ms(const BenchCase& c) {
    std::optional<double> fastest;
    for (const char* kind : {"softmax", "cudnn", "flash"}) {
      for (const char* dtype : {"float32", "bfloat16"}) {
        // Among all backends of a GPU that in float32 is never the fastest, and slow to wait for.
        if (c.device.is_cuda() && dtype == std::string("float32")) continue;
        const auto times = peer(c, kind, dtype);
        if (times && (!fastest || times->median_ms < *fastest)) fastest = times->median_ms;
      }
    }
    return fastest;
  }

  std::optional<Times> measure_unless_slow(const BenchCase& c,
                                           const std::function<BenchInputs()>& inputs) {
    const double seconds = predicted_seconds(c);
    if (c.is_quadratic() && seconds > grid_.skip_slower_than) {
      log_ << "left out: " << c.kind << " " << c.dtype << " " << c.pass << " of " << c.tokens
           << " tokens, about " << format_number(seconds) << " s a run (--skip-slower-than "
           << format_number(grid_.skip_slower_than) << ")\n";
      return std::nullopt;
    }
    if (seconds > kAnnounceSeconds)
      log_ << "running: " << c.kind << " " << c.dtype << " " << c.pass << " of " << c.tokens
           << " tokens, about " << format_number(seconds) << " s a run" << std::endl;
    const Times times = measure(c, inputs(), grid_.effort);
    measured_[series_key(c)] = {c.tokens, times.min_ms};
    return times;
  }

  double predicted_seconds(const BenchCase& c) {
    auto known = measured_.find(series_key(c));
    const bool is_near = known != measured_.end() && known->second.tokens >= kProbeTokens;
    if (!is_near && c.tokens <= kProbeTokens) return 0;
    if (!is_near) {
      if (!c.is_quadratic()) return 0;
      BenchCase probe = c;
      probe.tokens = kProbeTokens;
      const Times times = measure(probe, make_inputs(probe), {1, 0, grid_.effort.max_seconds});
      known = measured_.insert_or_assign(series_key(c), Length{kProbeTokens, times.min_ms}).first;
    }
    const double ratio = static_cast<double>(c.tokens) / static_cast<double>(known->second.tokens);
    return known->second.ms / 1000 * (c.is_quadratic() ? ratio * ratio : ratio);
  }

  // The error does not depend on the pass or the threads.
  Accuracy error_of(const BenchCase& c, const BenchInputs& inputs) {
    const std::string key =
        join(c.kind, " ", c.dtype, " ", c.input, " ", c.bits_rule, " ", c.tokens);
    auto known = errors_.find(key);
    if (known == errors_.end()) known = errors_.insert({key, accuracy(c, inputs)}).first;
    return known->second;
  }

  void add_row(const BenchCase& c, const std::optional<Times>& times, const BenchInputs& inputs) {
    const bool is_yoso = c.is_yoso();
    std::optional<double> same, fastest, doubling;
    if (times && grid_.peers) {
      if (const auto own = peer(c, "softmax", c.dtype)) same = own->median_ms / times->median_ms;
      if (const auto ms = fastest_peer_ms(c)) fastest = *ms / times->median_ms;
    }
    const std::string series = series_key(c);
    if (const auto last = last_row_.find(series); times && last != last_row_.end()) {
      const auto [tokens, ms] = last->second;
      const double doublings =
          std::log2(static_cast<double>(c.tokens) / static_cast<double>(tokens));
      if (doublings > 0) doubling = std::pow(times->median_ms / ms, 1 / doublings);
    }
    if (times) last_row_[series] = {c.tokens, times->median_ms};
    std::optional<Accuracy> error;
    if (times && is_yoso && grid_.error && c.batch * c.tokens * c.heads <= kErrorRows)
      error = error_of(c, inputs);

    const auto of_times = [&](double Times::*value) {
      return times ? Json((*times).*value) : Json(nullptr);
    };
    Json row = {{"kind", is_yoso ? "yoso" : "softmax"},
                {"mode", c.kind == "softmax" ? Json(nullptr) : Json(c.kind)},
                {"device", c.device.str()},
                {"dtype", c.dtype},
                {"input", c.input},
                {"tokens", c.tokens},
                {"batch", c.batch},
                {"heads", c.heads},
                {"width", c.width},
                {"threads", c.threads},
                {"pass", c.pass},
                {"hashes", is_yoso ? Json(c.hashes) : Json(nullptr)},
                {"backward_hashes",
                 is_yoso && c.backward_hashes > 0 ? Json(c.backward_hashes) : Json(nullptr)},
                {"bits", is_yoso ? Json(c.bits) : Json(nullptr)},
                {"bits_rule", is_yoso ? Json(c.bits_rule) : Json(nullptr)},
                {"skipped", !times.has_value()},
                {"runs", times ? times->runs : 0},
                {"median_ms", of_times(&Times::median_ms)},
                {"min_ms", of_times(&Times::min_ms)},
                {"max_ms", of_times(&Times::max_ms)},
                {"times_faster_than_sdpa", number_or_null(same)},
                {"times_faster_than_fastest_sdpa", number_or_null(fastest)},
                {"times_per_doubling", number_or_null(doubling)},
                {"peak_mib", of_times(&Times::peak_mib)},
                {"peak_total_mib", of_times(&Times::peak_total_mib)},
                {"extra_bytes_per_row", number_or_null(extra_bytes_per_row(c, times))},
                {"relative_error", error ? number_or_null(error->relative_error) : Json(nullptr)},
                {"cosine", error ? number_or_null(error->cosine) : Json(nullptr)}};
    table_.print(row);
    results_.push_back(std::move(row));
  }

  // Columns that are the same in every row stand above the table instead.
  void print_heads() {
    const auto add = [&](bool shown, const char* head, int width, const char* key) {
      if (shown) table_.add_column(head, width, key);
    };
    const auto several = [](const auto& list) { return list.size() > 1; };
    out_ << "heads " << grid_.heads << ", width " << grid_.width << ", M = " << grid_.hashes;
    if (grid_.backward_hashes > 0) out_ << ", " << grid_.backward_hashes << " of them backward";
    if (!several(grid_.bits)) out_ << ", " << code_bits(grid_.bits[0], 1).second;
    if (!several(grid_.dtypes)) out_ << ", " << grid_.dtypes[0];
    if (!several(grid_.inputs)) out_ << ", " << grid_.inputs[0] << " inputs";
    if (!several(grid_.passes)) out_ << ", " << grid_.passes[0];
    if (!several(grid_.threads)) out_ << ", threads: " << grid_.threads[0];
    if (grid_.tokens_total > 0) {
      out_ << ", batches of " << grid_.tokens_total << " tokens";
    } else if (grid_.batch > 1) {
      out_ << ", batch " << grid_.batch;
    }
    if (grid_.peers) {
      out_ << "\nx SDPA: times faster than SDPA of the same type; x fastest: than the "
           << (grid_.device.is_cuda() ? "fastest backend of SDPA in bfloat16"
                                      : "faster of SDPA in float32 and bfloat16");
    }
    out_ << "\n";
    add(true, "tokens", 10, "tokens");
    add(several(grid_.threads), "threads", 8, "threads");
    add(several(grid_.passes), "pass", 17, "pass");
    add(several(grid_.inputs), "input", 10, "input");
    add(several(grid_.dtypes), "dtype", 9, "dtype");
    add(several(grid_.bits), "bits", 11, "bits_rule");
    add(true, "median ms", 11, "median_ms");
    add(grid_.peers, "x SDPA", 8, "times_faster_than_sdpa");
    add(grid_.peers, "x fastest", 10, "times_faster_than_fastest_sdpa");
    add(!grid_.peers, "x doubling", 11, "times_per_doubling");
    add(true, "peak MiB", 9, "peak_mib");
    add(grid_.error, "rel. error", 11, "relative_error");
    add(grid_.error, "cosine", 8, "cosine");
    table_.print_heads();
  }

  struct Length {
    int64_t tokens;
    double ms;
  };

  const BenchGrid& grid_;
  std::ostream& out_;
  std::ostream& log_;
  Json results_ = Json::array();
  BenchTable table_{out_, 9};
  std::set<std::string> checked_;
  std::map<std::string, std::optional<Times>> peers_;
  std::map<std::string, Length> measured_;  // last of a series, to tell how long the next takes
  std::map<std::string, Length> last_row_;  // of a series
  std::map<std::string, Accuracy> errors_;
};

}  // namespace

Json run_grid(const BenchGrid& grid, std::ostream& out, std::ostream& log) {
  return GridRun(grid, out, log).run();
}

void BenchTable::add_column(const char* head, int width, const char* key) {
  columns_.push_back({head, width, key});
}

void BenchTable::print_heads() {
  out_ << std::left << std::setw(kind_width_) << "kind" << std::right;
  for (const Column& column : columns_) out_ << std::setw(column.width) << column.head;
  out_ << std::endl;
}

void BenchTable::print(const Json& row) {
  out_ << std::left << std::setw(kind_width_) << kind_of(row) << std::right;
  for (const Column& column : columns_) {
    const Json& cell = row[column.key];
    out_ << std::setw(column.width)
         << (cell.is_string() ? cell.get<std::string>()
                              : format_number(number_of(row, column.key)));
  }
  if (row["skipped"]) out_ << "  left out";
  if (row.contains("left_out") && row["left_out"].is_string())
    out_ << ": " << row["left_out"].get<std::string>();
  out_ << std::endl;
}

Json bench_document(const std::string& subcommand, const std::string& device, const Json& results) {
  const Machine machine = this_machine();
  return {{"program", "yoso bench " + subcommand},
          {"version", YOSO_VERSION},
          {"date", utc_date()},
          {"command", command_line()},
          {"torch", TORCH_VERSION},
          {"machine",
           {{"cpu", machine.cpu},
            {"cores", machine.cores},
            {"memory_gib", machine.memory_gib},
            {"simd", machine.simd},
            {"device", device}}},
          {"results", results}};
}

}  // namespace yoso
