// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/lra_methods.h"

#include <algorithm>

#include "yoso/core/check.h"
#include "yoso/nn/attention.h"

namespace yoso::lra {
namespace {

// The forms of YOSO, then all other attention kinds by their names.
std::vector<Method> all_methods() {
  const std::string yoso = "model.attention.yoso.";
  std::vector<Method> methods = {
      {"yoso_32", {yoso + "num_hashes=32"}},
      {"yoso_16", {yoso + "num_hashes=16"}},
      {"yoso_expected", {yoso + "mode=expected"}},
      {"yoso_conv_16", {yoso + "num_hashes=16", "model.attention.conv_width=33"}},
      {"yoso_true_16", {yoso + "num_hashes=16", yoso + "gradient=\"true\""}},
  };
  for (Method& method : methods) method.settings.push_back("model.attention.kind=yoso");
  for (const std::string& kind : nn::attention_kinds())
    if (kind != "yoso") methods.push_back({kind, {"model.attention.kind=" + kind}});
  return methods;
}

}  // namespace

std::vector<Method> chosen_methods(const std::vector<std::string>& names) {
  std::vector<Method> all = all_methods(), chosen;
  if (names.empty()) return all;
  std::vector<std::string> known;
  for (const Method& method : all) known.push_back(method.name);
  for (const std::string& name : names) {
    const auto place = std::find(known.begin(), known.end(), name) - known.begin();
    if (place == std::ssize(known))
      fail("lra: method is '", name, "', expected one of ", listed(known));
    chosen.push_back(all[static_cast<size_t>(place)]);
  }
  return chosen;
}

}  // namespace yoso::lra
