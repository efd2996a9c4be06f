// yoso train: runs a recipe.
// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "yoso/cli/commands.h"
#include "yoso/cli/device.h"
#include "yoso/cli/progress.h"
#include "yoso/cli/training_process.h"
#include "yoso/train/checkpoint.h"
#include "yoso/train/loop.h"

namespace yoso {
namespace {

struct TrainCommand {
  std::string recipe, out, device;
  std::vector<std::string> set;
  bool resume = false;
};

void run(const TrainCommand& command) {
  keep_freed_memory();
  TrainControl control;
  control.device = choose_device(command.device);
  Recipe recipe = read_recipe(command.recipe, command.set);
  if (!command.out.empty()) recipe.train.out = command.out;
  const std::string& out = recipe.train.out;

  Progress progress(std::cerr, isatty(STDERR_FILENO) != 0, recipe.train.steps);
  control.resume = command.resume;
  control.stop = stop_on_signals();
  control.observer = &progress;
  const Ending ending = train(recipe, control);

  const RunState state = Checkpoint(last_path(out)).state();
  if (ending == Ending::kInterrupted) {
    std::string settings;
    for (const std::string& assignment : command.set) settings += " --set '" + assignment + "'";
    if (!command.device.empty()) settings += " --device " + command.device;
    throw Interrupted(join("stopped after step ", state.step, " and saved; go on with: yoso train ",
                           command.recipe, settings, " --out ", out, " --resume"));
  }
  if (ending == Ending::kStoppedEarly)
    std::cerr << "stopped early: no better evaluation since step " << state.best_step << '\n';
  std::cout << best_path(out) << ": best of step " << state.best_step << ", dev accuracy "
            << state.best_accuracy << '\n';
}

}  // namespace

void add_train_command(CLI::App& app) {
  const auto options = std::make_shared<TrainCommand>();
  CLI::App* command = app.add_subcommand("train", "Train the model of a recipe");
  command->add_option("RECIPE", options->recipe, "TOML file that describes the run")->required();
  command
      ->add_option("--set", options->set,
                   "KEY=VALUE, changes a key of the recipe; may be given many times")
      ->allow_extra_args(false);
  command->add_option("--out", options->out,
                      "folder of the run (default: runs/, then the recipe's folder and name)");
  add_device_option(*command, options->device);
  command->add_flag("--resume", options->resume,
                    "go on from the folder's last checkpoint, if there is one");
  command->footer(
      "Examples:\n"
      "  yoso train recipes/listops/yoso_small.toml\n"
      "  yoso train recipes/listops/yoso.toml --set train.steps=100 --set model.layers=4\n"
      "  yoso train recipes/listops/yoso.toml --set model.attention.kind=softmax --out "
      "runs/softmax\n"
      "  yoso train recipes/listops/yoso.toml --resume\n"
      "The folder holds best.safetensors (what evaluate and predict use), last.safetensors (what\n"
      "--resume uses), recipe.toml with every key, run.jsonl and a TensorBoard file. Ctrl-C\n"
      "finishes the step, saves and exits with 130; a resumed run has the same losses, to the\n"
      "bit, as one that was never stopped, with the same --device.");
  command->callback([options] { run(*options); });
}

}  // namespace yoso
