// yoso info: what this build and this machine offer.
// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/version.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "yoso/cli/commands.h"
#include "yoso/cli/device.h"
#include "yoso/cli/machine.h"
#include "yoso/cpu/simd.h"
#include "yoso/models/model.h"
#include "yoso/nn/attention.h"
#include "yoso/tasks/task.h"

namespace yoso {
namespace {

using Json = nlohmann::ordered_json;

#ifdef YOSO_CUDA
constexpr bool kBuiltWithCuda = true;
#else
constexpr bool kBuiltWithCuda = false;
#endif

std::vector<std::string> operators() {
  std::vector<std::string> names;
  for (const c10::OperatorName& op : c10::Dispatcher::singleton().getAllOpNames())
    if (op.name.starts_with("yoso::")) names.push_back(op.name);
  std::sort(names.begin(), names.end());
  return names;
}

Json describe() {
  const Machine machine = this_machine();
  return {
      {"version", YOSO_VERSION},
      {"build", {{"type", YOSO_BUILD_TYPE}, {"compiler", YOSO_COMPILER}, {"cuda", kBuiltWithCuda}}},
      {"torch", TORCH_VERSION},
      {"machine",
       {{"cpu", machine.cpu},
        {"cores", machine.cores},
        {"threads", at::get_num_threads()},
        {"memory_gib", machine.memory_gib}}},
      {"simd",
       {{"level", machine.simd},
        {"supported", cpu::supported_simd_levels()},
        {"compiled", cpu::simd_levels()}}},
      {"devices", device_names()},
      {"operators", operators()},
      {"attention_kinds", nn::attention_kinds()},
      {"models", model_kinds()},
      {"tasks", task_names()}};
}

std::string text_of(const Json& value) {
  if (value.is_string()) return value;
  if (value.is_boolean()) return value ? "yes" : "no";
  if (value.is_number_float()) {
    std::ostringstream text;
    text << std::setprecision(3) << value.get<double>();
    return text.str();
  }
  if (!value.is_structured()) return value.dump();
  std::string text;
  for (const auto& [key, item] : value.items())
    text += value.is_object() ? (text.empty() ? "" : "; ") + key + " " + text_of(item)
                              : (text.empty() ? "" : ", ") + text_of(item);
  return text;
}

}  // namespace

void add_info_command(CLI::App& app) {
  const auto as_json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand(
      "info", "Version, build, SIMD level, devices, operators, attention kinds, models, tasks");
  command->add_flag("--json", *as_json, "as one JSON object");
  command->footer("YOSO_SIMD=avx3|avx2|sse4|scalar in the environment forces the SIMD level.");
  command->callback([as_json] {
    const Json description = describe();
    if (*as_json) {
      std::cout << description.dump(2) << "\n";
      return;
    }
    for (const auto& [key, value] : description.items()) {
      std::string name = key;
      std::replace(name.begin(), name.end(), '_', ' ');
      std::cout << std::left << std::setw(17) << name << text_of(value) << "\n";
    }
  });
}

}  // namespace yoso
