// yoso bench: attention, growth, crossover, methods.
// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <limits>
#include <memory>

#include "yoso/cli/bench_grid.h"
#include "yoso/cli/bench_methods.h"
#include "yoso/cli/bench_results.h"
#include "yoso/cli/commands.h"
#include "yoso/cli/device.h"
#include "yoso/cli/lra_methods.h"
#include "yoso/core/check.h"
#include "yoso/core/file.h"

namespace yoso {
namespace {

const std::vector<std::string> kPasses = {"forward", "forward+backward"};

// CLI11's own validators print the largest double.
CLI::Validator at_least(double low, const char* expected) {
  const auto check = [low, expected](const std::string& text) {
    double value = 0;
    const bool fits = CLI::detail::lexical_cast(text, value) && value >= low;
    return fits ? std::string() : join("is '", text, "', expected ", expected);
  };
  return CLI::Validator(check, "");
}
const CLI::Validator kPositive = at_least(std::numeric_limits<double>::min(), "more than 0");
const CLI::Validator kNotNegative = at_least(0, "0 or more");

template <class Grid>
struct BenchOptions {
  CLI::App* command = nullptr;
  Grid grid;
  std::string device = "cpu", out, chart;
  CLI::Option* dtype = nullptr;
};

// Files are opened before anything is measured: a long run must not end in a wrong path.
std::unique_ptr<FileWriter> open(const std::string& path) {
  return path.empty() ? nullptr : std::make_unique<FileWriter>(path);
}

void finish(const std::unique_ptr<FileWriter>& file, const std::string& path,
            const std::string& text) {
  if (file == nullptr) return;
  file->write(text);
  file->commit();
  std::cout << path << "\n";
}

// Bytes of the command line that are no UTF-8 are replaced.
std::string text_of(const nlohmann::json& document) {
  return document.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

template <class Grid>
nlohmann::json run(BenchOptions<Grid>& options) {
  Grid& grid = options.grid;
  grid.device = choose_device(options.device);
  if (grid.device.is_cuda() && options.dtype->count() == 0) grid.dtypes = {"bfloat16"};
  const auto out = open(options.out), chart = open(options.chart);
  const auto results = run_grid(options.grid, std::cout, std::cerr);
  const auto index = static_cast<size_t>(grid.device.is_cuda() ? 1 + grid.device.index() : 0);
  finish(out, options.out,
         text_of(bench_document(options.command->get_name(), device_names()[index], results)));
  finish(chart, options.chart, svg(bench_charts(results)));
  return results;
}

template <class T>
CLI::Option* add_value(CLI::App& command, const char* name, T& value, const char* help) {
  return command.add_option(name, value, help)->capture_default_str();
}

template <class T>
CLI::Option* add_list(CLI::App& command, const char* name, std::vector<T>& values,
                      const char* help) {
  return add_value(command, name, values, help)->delimiter(',');
}

// A subcommand with the options that all of them share; lists are separated by commas.
template <class Grid>
std::shared_ptr<BenchOptions<Grid>> add_subcommand(CLI::App& bench, const char* name,
                                                   const char* help, Grid defaults) {
  auto options = std::make_shared<BenchOptions<Grid>>();
  CLI::App& command = *(options->command = bench.add_subcommand(name, help));
  Grid& grid = options->grid = std::move(defaults);
  grid.threads = {at::get_num_threads()};
  if (grid.passes.empty()) grid.passes = kPasses;
  Effort& effort = grid.effort;
  add_list(command, "--tokens", grid.tokens, "lengths")->check(kPositive);
  add_list(command, "--pass", grid.passes, "what is timed")->check(CLI::IsMember(kPasses));
  options->dtype =
      add_list(command, "--dtype", grid.dtypes, "types of the values (default on a GPU: bfloat16)")
          ->check(CLI::IsMember({"float32", "bfloat16", "float16"}));
  add_list(command, "--threads", grid.threads, "numbers of threads")->check(CLI::Range(1, 1024));
  add_value(command, "--heads", grid.heads, "H")->check(kPositive);
  add_value(command, "--width", grid.width, "D, columns of a head")->check(CLI::Range(1, 256));
  add_value(command, "--batch", grid.batch, "B, sequences")->check(kPositive);
  add_value(command, "--repeat", effort.repeat, "runs of a case at least; the median counts")
      ->check(kPositive);
  add_value(command, "--min-time", effort.min_seconds, "seconds of a case at least")
      ->check(kNotNegative);
  add_value(command, "--max-time", effort.max_seconds, "seconds of a case without a new run begun")
      ->check(kPositive);
  add_value(command, "--tokens-total", grid.tokens_total,
            "tokens of a batch, whatever the length: --batch is this by the length, at least 1")
      ->check(kNotNegative);
  add_value(command, "--device", options->device, "cpu, cuda or a GPU such as cuda:1");
  command.add_option("--out", options->out, "JSON file to write");
  command.add_option("--chart", options->chart, "SVG file to write");
  return options;
}

// Of sampled attention alone.
std::shared_ptr<BenchOptions<BenchGrid>> add_sampled(CLI::App& bench, const char* name,
                                                     const char* help, BenchGrid defaults) {
  auto options = add_subcommand(bench, name, help, std::move(defaults));
  CLI::App& command = *options->command;
  BenchGrid& grid = options->grid;
  add_value(command, "--hashes", grid.hashes, "M, of sampled attention")->check(kPositive);
  add_value(command, "--backward-hashes", grid.backward_hashes,
            "of M, from which the gradients of queries and keys come; 0: all")
      ->check(kNotNegative);
  return options;
}

void add_input(BenchOptions<BenchGrid>& options) {
  add_list(*options.command, "--input", options.grid.inputs,
           "queries and keys: independent, around 16 centres, all the same")
      ->check(CLI::IsMember({"iid", "clustered", "identical"}));
  add_list(*options.command, "--bits", options.grid.bits,
           "T, 1 to 16, or log2 for the logarithm of the length");
}

void add_attention(CLI::App& bench) {
  BenchGrid defaults;
  defaults.tokens = {256, 512, 1024, 2048, 4096, 8192};
  defaults.kinds = {"sampled", "expected", "softmax"};
  const auto options = add_sampled(
      bench, "attention",
      "Time, memory and error of attention by length, beside torch's SDPA in the same process",
      defaults);
  BenchGrid& grid = options->grid;
  add_input(*options);
  add_list(
      *options->command, "--kinds", grid.kinds,
      "modes of YOSO, and softmax for SDPA itself; cudnn and flash: those backends of it, on a GPU")
      ->check(CLI::IsMember({"sampled", "expected", "auto", "softmax", "cudnn", "flash"}));
  add_value(*options->command, "--skip-slower-than", grid.skip_slower_than,
            "leave softmax and expected out where one run takes more seconds")
      ->check(kPositive);
  options->command->footer(
      "Examples:\n"
      "  yoso bench attention --tokens 512,4096 --threads 1,2 --out attention.json\n"
      "  yoso bench attention --device cuda --tokens 1024,4096,32768 --tokens-total 32768 \\\n"
      "    --kinds sampled,expected,softmax,cudnn,flash\n"
      "A case whose operators disagree with their reference is refused.");
  options->command->callback([options] { run(*options); });
}

void add_growth(CLI::App& bench) {
  BenchGrid defaults;
  defaults.tokens = {8192, 16384, 32768, 65536};
  defaults.kinds = {"sampled"};
  defaults.inputs = {"iid", "clustered", "identical"};
  defaults.bits = {"8", "log2"};
  defaults.peers = defaults.error = false;
  const auto options = add_sampled(
      bench, "growth", "How the time of sampled attention grows when the length doubles", defaults);
  add_input(*options);
  options->command->callback([options] { run(*options); });
}

// Prints rows of the table in yoso/torch/crossover.cc.
void print_crossover(const nlohmann::json& results) {
  const auto device = [](const nlohmann::json& row) {
    return row["device"] == "cpu" ? "kCpu" : "kCuda";
  };
  const auto time = [&](const nlohmann::json& tokens, const char* mode) {
    for (const auto& row : results)
      if (row["tokens"] == tokens && row["mode"] == mode) return number_of(row, "median_ms");
    return number_of({}, "");
  };
  for (const auto& row : results) {
    if (row["mode"] != "expected") continue;
    std::cout << "    {Device::" << device(row) << ", " << row["tokens"] << ", "
              << time(row["tokens"], "expected") << ", " << time(row["tokens"], "sampled")
              << "},\n";
  }
}

void add_crossover(CLI::App& bench) {
  BenchGrid defaults;
  defaults.tokens = {16, 32, 64, 128, 256, 512, 1024, 2048};
  defaults.kinds = {"expected", "sampled"};
  defaults.passes = {"forward+backward"};
  defaults.peers = defaults.error = false;
  const auto options = add_sampled(
      bench, "crossover",
      "Expected against sampled attention by length: the table that mode auto uses", defaults);
  options->command->callback([options] { print_crossover(run(*options)); });
}

void add_methods(CLI::App& bench) {
  MethodsGrid defaults;
  defaults.tokens = {256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
  defaults.heads = 4;
  const auto options = add_subcommand(
      bench, "methods",
      "Time and memory of every way to attend by length: one attention layer, and an encoder",
      defaults);
  MethodsGrid& grid = options->grid;
  options->dtype->check(CLI::IsMember({"float32", "bfloat16"}));
  add_list(*options->command, "--methods", grid.methods, lra::kMethodsHelp);
  add_list(*options->command, "--parts", grid.parts, "what is timed, each alone")
      ->check(CLI::IsMember({"layer", "encoder"}));
  add_value(*options->command, "--skip-slower-than", grid.skip_slower_than,
            "name a method instead of timing it where one run takes more seconds")
      ->check(kPositive);
  add_value(*options->command, "--max-memory", grid.max_mib,
            "MiB, likewise; 0: what the system can give")
      ->check(kNotNegative);
  options->command
      ->add_option("--set", grid.settings,
                   "KEY=VALUE, changes a key of [model] in a recipe: model.layers=2, "
                   "model.attention.yoso.code_bits=9")
      ->allow_extra_args(false);
  options->command->footer(
      "Examples:\n"
      "  yoso bench methods --tokens 256,1024,4096 --threads 2 --out methods.json\n"
      "  yoso bench methods --device cuda --tokens-total 32768 --parts layer --chart methods.svg\n"
      "The encoder is that of the paper's efficiency study: 6 layers that share their weights.\n"
      "yoso report --bench methods.json --out methods.html draws it.");
  options->command->callback([options] { run(*options); });
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "Measure attention");
  bench->require_subcommand(1);
  add_attention(*bench);
  add_growth(*bench);
  add_crossover(*bench);
  add_methods(*bench);
}

}  // namespace yoso
