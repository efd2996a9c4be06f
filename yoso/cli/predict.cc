// yoso predict: labels lines of text.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>

#include "yoso/cli/commands.h"
#include "yoso/cli/device.h"
#include "yoso/nn/generator.h"
#include "yoso/train/checkpoint.h"
#include "yoso/train/evaluate.h"

namespace yoso {
namespace {

struct PredictCommand {
  std::string checkpoint, file = "-", device;
};

std::string probabilities_text(const Task& task, const at::Tensor& probabilities) {
  std::string text;
  for (int64_t label = 0; label < task.num_classes(); ++label) {
    char number[32];
    std::snprintf(number, sizeof number, "=%.4f", probabilities[label].item<double>());
    text += (label == 0 ? "" : " ") + task.class_name(label) + number;
  }
  return text;
}

// "LABEL<TAB>probabilities", or the labels of the tokens.
std::string answer(Model& model, const Task& task, const Batch& question) {
  const at::Tensor tokens = question.tokens.to(model.device());
  const at::Tensor mask = question.mask.to(model.device());
  const at::Tensor logits = model.forward(tokens, mask)[0].to(at::kCPU, at::kFloat);
  if (!task.labels_per_token()) {
    const at::Tensor probabilities = logits.softmax(-1);
    return task.class_name(probabilities.argmax().item<int64_t>()) + "\t" +
           probabilities_text(task, probabilities);
  }
  std::string labels;
  const at::Tensor best = logits.argmax(-1);
  for (int64_t i = 0; i < best.numel(); ++i)
    labels += (i == 0 ? "" : " ") + task.class_name(best[i].item<int64_t>());
  return labels;
}

// Answers every line of `in` by one line, an empty one where there is no text. Lines end in LF or
// CR LF. Throws Error with `name` and the line's number.
void answer_lines(std::istream& in, const std::string& name, const Task& task, Model& model,
                  int64_t seed) {
  int64_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    Batch question;
    try {
      if (!line.empty()) question = task.question(line);
    } catch (const Error& error) {
      fail(name, ":", number, ": ", error.what());
    }
    if (question.tokens.defined() && question.tokens.numel() > 0) {
      // The same hashes for every line: an answer does not depend on the lines before.
      const nn::GeneratorScope seeded(seed, model.device());
      std::cout << answer(model, task, question);
    }
    std::cout << std::endl;
    if (!std::cout) fail("standard output: cannot write");
  }
  if (in.bad()) fail(name, ": cannot be read to its end");
}

void run(const PredictCommand& command) {
  const at::Device device = choose_device(command.device);
  const Checkpoint checkpoint(command.checkpoint);
  const Recipe& recipe = checkpoint.recipe();
  const std::shared_ptr<const Task> task =
      make_task(recipe.task.name, recipe.task.data, recipe.task.options);
  const std::shared_ptr<Model> model = make_model(resolve(recipe.model, *task));
  checkpoint.load_weights(*model);
  model->to(device);
  model->eval();
  const at::NoGradGuard no_grad;

  if (command.file == "-") {
    answer_lines(std::cin, "standard input", *task, *model, recipe.train.seed);
    return;
  }
  std::ifstream file(command.file);
  if (!file) fail(command.file, ": cannot be read, expected a file of lines");
  answer_lines(file, command.file, *task, *model, recipe.train.seed);
}

}  // namespace

void add_predict_command(CLI::App& app) {
  const auto options = std::make_shared<PredictCommand>();
  CLI::App* command = app.add_subcommand("predict", "Label lines of text");
  command->add_option("CHECKPOINT", options->checkpoint, "safetensors file, or the folder of a run")
      ->required();
  command->add_option("FILE", options->file, "one text a line; -: standard input")
      ->capture_default_str();
  add_device_option(*command, options->device);
  command->footer(
      "Examples:\n"
      "  echo '[MAX 2 [MIN 7 5 ] 1 ]' | yoso predict runs/listops/yoso_small\n"
      "  yoso predict runs/text/yoso reviews.txt > labels.tsv\n"
      "Prints for each line, as soon as it is read, its label, a tab, and the probability of "
      "every\n"
      "class; for a task with a label per token, the labels; for an empty line an empty line. "
      "Lines\n"
      "may end in CR LF. The data of the training are not needed.");
  command->callback([options] { run(*options); });
}

}  // namespace yoso
