// yoso convert: rewrites a model of transformers.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "yoso/cli/commands.h"
#include "yoso/train/transformers_checkpoint.h"

namespace yoso {
namespace {

namespace fs = std::filesystem;

struct ConvertCommand {
  std::string from, to, dtype = "float32";
};

const std::map<std::string, at::ScalarType> kTypes = {
    {"float32", at::kFloat}, {"float16", at::kHalf}, {"bfloat16", at::kBFloat16}};

void run(const ConvertCommand& command) {
  const auto model = read_transformers_model(command.from, read_transformers_config(command.from));
  write_transformers_model(command.to, *model, kTypes.at(command.dtype));
  for (const char* name : {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json",
                           "special_tokens_map.json"}) {
    const fs::path file = fs::path(command.from) / name;
    if (!fs::exists(file) || fs::equivalent(command.from, command.to)) continue;
    std::error_code error;
    fs::copy_file(file, fs::path(command.to) / name, fs::copy_options::overwrite_existing, error);
    if (error) fail(command.to, "/", name, ": cannot be written: ", error.message());
  }
}

}  // namespace

void add_convert_command(CLI::App& app) {
  const auto options = std::make_shared<ConvertCommand>();
  CLI::App* command = app.add_subcommand("convert", "Rewrite a model of transformers");
  command->add_option("FROM", options->from, "folder with config.json and model.safetensors")
      ->required();
  command->add_option("TO", options->to, "folder to write, made where there is none")->required();
  command->add_option("--dtype", options->dtype, "type of the weights: float32, float16, bfloat16")
      ->capture_default_str()
      ->check(CLI::IsMember({"float32", "float16", "bfloat16"}));
  command->footer(
      "Example:\n"
      "  yoso convert yoso-4096 yoso-4096-half --dtype float16\n"
      "Reads the model, so a weight that is missing or surplus is an error, and writes it as\n"
      "transformers loads it; the tokenizer's files go along. A pickled checkpoint\n"
      "(pytorch_model.bin) first needs tools/pickle_to_safetensors, which is Python.");
  command->callback([options] { run(*options); });
}

}  // namespace yoso
