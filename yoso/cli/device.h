// The option --device of the commands that compute.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace yoso {

CLI::Option* add_device_option(CLI::App& command, std::string& device);

// "cpu", "cuda" or "cuda:1"; "": the first GPU, where there is one that this build can use. Throws
// Error saying why a GPU cannot be had. To be called before torch is used for anything.
at::Device choose_device(const std::string& name);

std::vector<std::string> device_names();  // "cpu", "cuda:0 (NVIDIA H100)"

}  // namespace yoso
