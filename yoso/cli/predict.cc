// yoso predict: labels lines of text.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "yoso/cli/commands.h"
#include "yoso/cli/device.h"
#include "yoso/cli/transformers_answers.h"
#include "yoso/nn/generator.h"
#include "yoso/train/checkpoint.h"
#include "yoso/train/evaluate.h"
#include "yoso/train/transformers_checkpoint.h"

namespace yoso {
namespace {

struct PredictCommand {
  std::string checkpoint, file = "-", device, mode;
  bool truncate = false;
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

using AnswerLine = std::function<std::string(const std::string& line)>;

// Answers every line of `in` by one line, an empty one where there is no text. Lines end in LF or
// CR LF. Throws Error with `name` and the line's number.
void answer_lines(std::istream& in, const std::string& name, const AnswerLine& answer_line) {
  int64_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    try {
      if (!line.empty()) std::cout << answer_line(line);
    } catch (const Error& error) {
      fail(name, ":", number, ": ", error.what());
    }
    std::cout << std::endl;
    if (!std::cout) fail("standard output: cannot write");
  }
  if (in.bad()) fail(name, ": cannot be read to its end");
}

// Of a model that yoso train has made.
AnswerLine answers_of_run(const PredictCommand& command, at::Device device) {
  const Checkpoint checkpoint(command.checkpoint);
  Recipe recipe = checkpoint.recipe();
  if (!command.mode.empty()) set_key(recipe, "model.attention.yoso.mode=" + command.mode);
  const std::shared_ptr<const Task> task =
      make_task(recipe.task.name, recipe.task.data, recipe.task.options);
  const std::shared_ptr<Model> model = make_model(resolve(recipe.model, *task));
  checkpoint.load_weights(*model);
  model->to(device);
  model->eval();
  return [task, model, seed = recipe.train.seed](const std::string& line) {
    const Batch question = task->question(line);
    if (question.tokens.numel() == 0) return std::string();
    // The same hashes for every line: an answer does not depend on the lines before.
    const nn::GeneratorScope seeded(seed, model->device());
    return answer(*model, *task, question);
  };
}

AnswerLine answers_of_transformers(const PredictCommand& command, at::Device device) {
  const auto answers = std::make_shared<TransformersAnswers>(
      command.checkpoint, named<Mode>(command.mode),
      command.truncate ? LongTexts::kCut : LongTexts::kRefuse, device);
  return [answers](const std::string& line) { return answers->answer(line); };
}

void run(const PredictCommand& command) {
  const at::Device device = choose_device(command.device);
  const at::NoGradGuard no_grad;
  const AnswerLine answer_line = is_transformers_checkpoint(command.checkpoint)
                                     ? answers_of_transformers(command, device)
                                     : answers_of_run(command, device);
  if (command.file == "-") return answer_lines(std::cin, "standard input", answer_line);
  std::ifstream file(command.file);
  if (!file) fail(command.file, ": cannot be read, expected a file of lines");
  answer_lines(file, command.file, answer_line);
}

}  // namespace

void add_predict_command(CLI::App& app) {
  const auto options = std::make_shared<PredictCommand>();
  CLI::App* command = app.add_subcommand("predict", "Label lines of text");
  command
      ->add_option("CHECKPOINT", options->checkpoint,
                   "safetensors file, the folder of a run, or of a YOSO model of transformers")
      ->required();
  command->add_option("FILE", options->file, "one text a line; -: standard input")
      ->capture_default_str();
  command
      ->add_option("--mode", options->mode,
                   "how attention is computed: expected, sampled or auto; else as the model says")
      ->check(CLI::IsMember({"expected", "sampled", "auto"}));
  command->add_flag("--truncate", options->truncate,
                    "cut off texts that are too long for a model of transformers");
  add_device_option(*command, options->device);
  command->footer(
      "Examples:\n"
      "  echo '[MAX 2 [MIN 7 5 ] 1 ]' | yoso predict runs/listops/yoso_small\n"
      "  yoso predict runs/text/yoso reviews.txt > labels.tsv\n"
      "  echo 'Paris is the <mask> of France.' | yoso predict yoso-4096\n"
      "Prints for each line, as soon as it is read, its label, a tab, and the probability of every\n"
      "class; for a task with a label per token, the labels; for an empty line an empty line. Lines\n"
      "may end in CR LF. The data of the training are not needed.\n"
      "A folder with config.json and model.safetensors is a model of transformers; its tokenizer is\n"
      "there too (tokenizer.json, or vocab.json and merges.txt). By its head, a line is\n"
      "  masked LM                text with <mask>       -> the text filled, likely tokens of each\n"
      "  sequence classification  text, or text TAB text -> label, probability of every label\n"
      "  token classification     text                   -> token=label ...\n"
      "  question answering       question TAB text      -> the answer in the text, its probability\n"
      "  multiple choice          text TAB choice ...    -> the choice, probability of every one");
  command->callback([options] { run(*options); });
}

}  // namespace yoso
