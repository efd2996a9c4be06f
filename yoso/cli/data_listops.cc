// yoso data listops: generates the expressions.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "yoso/cli/data.h"
#include "yoso/cpu/parallel.h"
#include "yoso/tasks/listops_files.h"

namespace yoso {
namespace {

// What the command line says beside the preset.
struct ListOpsCommand {
  std::string out, preset = "full";
  uint64_t seed = 0;
  std::optional<int64_t> train, dev, test, above_length, below_length, max_depth, max_args, threads;
};

void run(const ListOpsCommand& command) {
  listops::FileSettings settings = listops::preset(command.preset);
  settings.trees.seed = command.seed;
  settings.train = command.train.value_or(settings.train);
  settings.dev = command.dev.value_or(settings.dev);
  settings.test = command.test.value_or(settings.test);
  listops::TreeSettings& trees = settings.trees;
  trees.above_length = command.above_length.value_or(trees.above_length);
  trees.below_length = command.below_length.value_or(trees.below_length);
  trees.max_depth = command.max_depth.value_or(trees.max_depth);
  trees.max_args = command.max_args.value_or(trees.max_args);
  if (command.threads) cpu::set_num_threads(*command.threads);

  ProgressLine progress;
  listops::write_files(command.out, settings,
                       [&](int64_t written) { progress.show(written, settings.total()); });
  std::cout << command.out << ": " << settings.train << " examples in " << listops::kTrainFile
            << ", " << settings.dev << " in " << listops::kDevFile << ", " << settings.test
            << " in " << listops::kTestFile << "\n";
}

}  // namespace

void add_listops_data(CLI::App& data) {
  const auto options = std::make_shared<ListOpsCommand>();
  CLI::App* command = data.add_subcommand(
      "listops",
      "ListOps: the value of nested expressions over digits, as in the Long Range Arena");
  command->add_option("--out", options->out, "folder to write, made when it is not there")
      ->required();
  command
      ->add_option("--preset", options->preset,
                   "full: the Long Range Arena's, 500 to 2,000 tokens, 650 MB in seconds; small: "
                   "50 to 300 tokens, for a run of minutes on a CPU")
      ->capture_default_str();
  command->add_option("--seed", options->seed, "another seed gives other expressions")
      ->capture_default_str();
  command->add_option("--train", options->train, "examples for training");
  command->add_option("--dev", options->dev, "examples to choose a model by");
  command->add_option("--test", options->test, "examples to judge it by");
  command->add_option("--above-length", options->above_length,
                      "expressions have more tokens than this");
  command->add_option("--below-length", options->below_length, "and fewer than this");
  command->add_option("--max-depth", options->max_depth, "operators inside each other");
  command->add_option("--max-args", options->max_args, "arguments of one operator, at most");
  command->add_option("--threads", options->threads, "default: as many as there are cores");
  command->footer(
      "Writes basic_train.tsv, basic_val.tsv and basic_test.tsv; files of these names are\n"
      "replaced when the new ones are whole. They depend on the options above only, not on the\n"
      "machine or the number of threads. A recipe reads them with data = \"FOLDER\".");
  command->callback([options] { run(*options); });
}

}  // namespace yoso
