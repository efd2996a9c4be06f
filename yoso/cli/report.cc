// yoso report: one page from the logs of runs and from benchmarks.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "yoso/cli/bench_results.h"
#include "yoso/cli/commands.h"
#include "yoso/cli/machine.h"
#include "yoso/cli/report_page.h"
#include "yoso/core/check.h"
#include "yoso/core/file.h"

namespace yoso {
namespace {

struct ReportOptions {
  std::vector<std::string> runs, benches;
  std::string out, figure;
};

void write(const std::string& path, const std::string& text) {
  FileWriter file(path);
  file.write(text);
  file.commit();
  std::cout << path << "\n";
}

void run(const ReportOptions& options) {
  if (options.out.empty() && options.figure.empty())
    fail("report: neither --out nor --figure is given, expected a file to write");
  if (options.runs.empty() && options.benches.empty())
    fail("report: neither --runs nor --bench is given, expected something to report");
  Report report;
  const Machine machine = this_machine();
  report.date = utc_date();
  report.machine = join(machine.cpu, ", ", machine.cores, " cores, yoso ", YOSO_VERSION);
  report.runs = read_run_logs(options.runs);
  for (const std::string& file : options.benches) report.benches.push_back(read_bench(file));
  if (!options.out.empty()) write(options.out, report_page(report));
  if (!options.figure.empty()) write(options.figure, report_figure(report));
}

}  // namespace

void add_report_command(CLI::App& app) {
  const auto options = std::make_shared<ReportOptions>();
  CLI::App* command = app.add_subcommand(
      "report", "Write one HTML page: learning curves side by side, benchmark tables and charts");
  command->add_option("--runs", options->runs, "folders of runs, each with a run.jsonl");
  command->add_option("--bench", options->benches, "JSON files that yoso bench wrote");
  command->add_option("--out", options->out, "HTML file to write; it needs no other file");
  command->add_option("--figure", options->figure,
                      "SVG file to write: dev accuracy by time, attention time by length");
  command->callback([options] { run(*options); });
}

}  // namespace yoso
