// The ways to attend that are compared: the forms of YOSO and all other attention kinds.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace yoso::lra {

// A name, and what it changes in a recipe: "model.attention.kind=softmax".
struct Method {
  std::string name;
  std::vector<std::string> settings;
};

// Those of the names, in their order; all without any. Throws Error listing the known ones.
std::vector<Method> chosen_methods(const std::vector<std::string>& names);

// Says it in the help of an option.
inline constexpr const char* kMethodsHelp =
    "yoso_32, yoso_16, yoso_expected, yoso_conv_16, yoso_true_16 and every attention kind of yoso "
    "info; default: all";

}  // namespace yoso::lra
