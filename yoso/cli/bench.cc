// yoso bench: attention, growth, crossover.
// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "yoso/cli/bench_grid.h"
#include "yoso/cli/bench_results.h"
#include "yoso/cli/commands.h"
#include "yoso/core/check.h"
#include "yoso/tasks/new_file.h"

namespace yoso {
namespace {

const std::vector<std::string> kPasses = {"forward", "forward+backward"};

struct BenchOptions {
  BenchGrid grid;
  std::string device = "cpu", out, chart;
};

void write(const std::string& path, const std::string& text) {
  NewFile file(path);
  file.write(text);
  file.commit();
  std::cout << path << "\n";
}

nlohmann::json run(const CLI::App& command, const BenchOptions& options) {
  if (options.device != "cpu")
    fail("bench: --device is '", options.device, "', expected cpu: no other device has operators");
  const auto results = run_grid(options.grid, std::cout, std::cerr);
  if (!options.out.empty())
    write(options.out, bench_document(command.get_name(), results).dump(1) + "\n");
  if (!options.chart.empty()) write(options.chart, svg(bench_charts(results)));
  return results;
}

// Options that all subcommands share; lists are separated by commas.
void add_options(CLI::App& command, BenchOptions& options) {
  BenchGrid& grid = options.grid;
  const auto list = [&](const char* name, auto& values, const char* help) {
    return command.add_option(name, values, help)->delimiter(',')->capture_default_str();
  };
  list("--tokens", grid.tokens, "lengths, 256,512,...")->check(CLI::PositiveNumber);
  list("--pass", grid.passes, "forward, forward+backward")->check(CLI::IsMember(kPasses));
  list("--dtype", grid.dtypes, "float32, bfloat16, float16")
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}));
  list("--threads", grid.threads, "numbers of threads")->check(CLI::Range(1, 1024));
  command.add_option("--heads", grid.heads)->check(CLI::PositiveNumber)->capture_default_str();
  command.add_option("--width", grid.width, "columns of a head")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  command.add_option("--batch", grid.batch)->check(CLI::PositiveNumber)->capture_default_str();
  command.add_option("--hashes", grid.hashes, "M, of sampled attention")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--repeat", grid.effort.repeat, "runs of a case, at least; the median counts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--min-time", grid.effort.min_seconds, "seconds of a case, at least")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      .add_option("--max-time", grid.effort.max_seconds,
                  "seconds of a case after which no run is begun")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--device", options.device, "cpu")->capture_default_str();
  command.add_option("--out", options.out, "JSON file to write");
  command.add_option("--chart", options.chart, "SVG file to write");
}

void add_input(CLI::App& command, BenchGrid& grid) {
  command.add_option("--input", grid.inputs, "iid, clustered (16 centres), identical (all tokens)")
      ->delimiter(',')
      ->check(CLI::IsMember({"iid", "clustered", "identical"}))
      ->capture_default_str();
  command.add_option("--bits", grid.bits, "T, 1 to 16, or log2 for the length's logarithm")
      ->delimiter(',')
      ->capture_default_str();
}

void add_skip(CLI::App& command, BenchGrid& grid) {
  command
      .add_option("--skip-slower-than", grid.skip_slower_than,
                  "leave softmax and expected attention out where one run takes more seconds")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

std::shared_ptr<BenchOptions> add_subcommand(CLI::App& bench, const char* name, const char* help,
                                             CLI::App*& command) {
  auto options = std::make_shared<BenchOptions>();
  options->grid.threads = {at::get_num_threads()};
  options->grid.passes = kPasses;
  command = bench.add_subcommand(name, help);
  return options;
}

void add_attention(CLI::App& bench) {
  CLI::App* command = nullptr;
  const auto options = add_subcommand(
      bench, "attention",
      "Time, memory and error of attention by length, beside torch's SDPA in the same process",
      command);
  options->grid.kinds = {"sampled", "expected", "softmax"};
  options->grid.tokens = {256, 512, 1024, 2048, 4096, 8192};
  add_options(*command, *options);
  add_input(*command, options->grid);
  add_skip(*command, options->grid);
  command->add_option("--kinds", options->grid.kinds, "sampled, expected, auto, softmax")
      ->delimiter(',')
      ->check(CLI::IsMember({"sampled", "expected", "auto", "softmax"}))
      ->capture_default_str();
  command->callback([=] { run(*command, *options); });
}

void add_growth(CLI::App& bench) {
  CLI::App* command = nullptr;
  const auto options = add_subcommand(
      bench, "growth", "How the time of sampled attention grows when the length doubles", command);
  options->grid.kinds = {"sampled"};
  options->grid.tokens = {8192, 16384, 32768, 65536};
  options->grid.inputs = {"iid", "clustered", "identical"};
  options->grid.bits = {"8", "log2"};
  options->grid.peers = options->grid.error = false;
  add_options(*command, *options);
  add_input(*command, options->grid);
  command->callback([=] { run(*command, *options); });
}

// Prints rows of the table in yoso/torch/crossover.cc.
void print_crossover(const nlohmann::json& results) {
  for (const std::string& pass : kPasses) {
    const auto time = [&](const nlohmann::json& at, const char* mode) {
      for (const auto& row : results)
        if (row["pass"] == pass && row["tokens"] == at["tokens"] && row["mode"] == mode)
          return number_of(row, "median_ms");
      return number_of({}, "");
    };
    for (const auto& row : results) {
      if (row["pass"] != pass || row["mode"] != "expected") continue;
      std::cout << "    {Device::kCpu, Pass::"
                << (pass == "forward" ? "kForward" : "kForwardBackward") << ", " << row["tokens"]
                << ", " << time(row, "expected") << ", " << time(row, "sampled") << "},\n";
    }
  }
}

void add_crossover(CLI::App& bench) {
  CLI::App* command = nullptr;
  const auto options = add_subcommand(
      bench, "crossover",
      "Expected against sampled attention by length: the table that mode auto uses", command);
  options->grid.kinds = {"expected", "sampled"};
  options->grid.tokens = {16, 32, 64, 128, 256, 512, 1024, 2048};
  options->grid.peers = options->grid.error = false;
  add_options(*command, *options);
  command->callback([=] { print_crossover(run(*command, *options)); });
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "Measure attention");
  bench->require_subcommand(1);
  add_attention(*bench);
  add_growth(*bench);
  add_crossover(*bench);
}

}  // namespace yoso
