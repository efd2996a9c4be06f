// yoso evaluate: the loss and the accuracy of a checkpoint.
// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/evaluate.h"

#include <CLI/CLI.hpp>
#include <chrono>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "yoso/cli/commands.h"
#include "yoso/cli/device.h"
#include "yoso/train/checkpoint.h"

namespace yoso {
namespace {

struct EvaluateCommand {
  std::string checkpoint, split = "test", mode, data, device;
  std::vector<std::string> set;
  bool json = false;
};

Split split_of(const std::string& name) {
  for (const Split split : {Split::kTrain, Split::kDev, Split::kTest})
    if (name == name_of(split)) return split;
  fail("--split is \"", name, "\", expected train, dev or test");
}

void run(const EvaluateCommand& command) {
  const at::Device device = choose_device(command.device);
  const Split split = split_of(command.split);
  const Checkpoint checkpoint(command.checkpoint);
  Recipe recipe = checkpoint.recipe();
  for (const std::string& assignment : command.set) set_key(recipe, assignment);
  if (!command.mode.empty()) set_key(recipe, "model.attention.yoso.mode=" + command.mode);
  if (!command.data.empty()) recipe.task.data = command.data;

  const std::shared_ptr<const Task> task =
      make_task(recipe.task.name, recipe.task.data, recipe.task.options);
  const std::shared_ptr<Model> model = make_model(resolve(recipe.model, *task));
  checkpoint.load_weights(*model);
  model->to(device);
  const auto begin = std::chrono::steady_clock::now();
  const Score score = *evaluate(*model, task, split, recipe.train);
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;

  if (command.json) {
    std::cout << nlohmann::ordered_json{{"checkpoint", checkpoint.path()},
                                        {"step", checkpoint.state().step},
                                        {"split", command.split},
                                        {"loss", score.loss},
                                        {"accuracy", score.accuracy},
                                        {"examples", score.examples},
                                        {"seconds", spent.count()}}
                     .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
              << '\n';
  } else {
    std::cout << checkpoint.path() << " (step " << checkpoint.state().step << "): " << command.split
              << " loss " << score.loss << ", accuracy " << score.accuracy << ", all "
              << score.examples << " examples, " << spent.count() << " s\n";
  }
}

}  // namespace

void add_evaluate_command(CLI::App& app) {
  const auto options = std::make_shared<EvaluateCommand>();
  CLI::App* command = app.add_subcommand("evaluate", "Measure a checkpoint on a split");
  command->add_option("CHECKPOINT", options->checkpoint, "safetensors file, or the folder of a run")
      ->required();
  command->add_option("--split", options->split, "train, dev or test")->capture_default_str();
  command->add_option("--mode", options->mode,
                      "expected, sampled or auto: how YOSO attention is computed (default: as in "
                      "training)");
  command->add_option("--data", options->data, "folder or file of the data, when it has moved");
  command->add_option("--set", options->set, "KEY=VALUE, changes a key of the checkpoint's recipe")
      ->allow_extra_args(false);
  add_device_option(*command, options->device);
  command->add_flag("--json", options->json, "print one JSON object");
  command->footer(
      "Examples:\n"
      "  yoso evaluate runs/listops/yoso_small\n"
      "  yoso evaluate runs/listops/yoso_small/last.safetensors --split dev\n"
      "  yoso evaluate runs/listops/yoso_small --mode expected\n"
      "  yoso evaluate runs/listops/yoso_small --set model.attention.yoso.num_hashes=64\n"
      "Every example of the split counts. Hashes are drawn from train.seed, so the same command\n"
      "prints the same numbers.");
  command->callback([options] { run(*options); });
}

}  // namespace yoso
