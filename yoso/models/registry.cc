// SPDX-License-Identifier: Apache-2.0
#include <map>

#include "yoso/core/check.h"
#include "yoso/models/classifier.h"
#include "yoso/models/dual_classifier.h"
#include "yoso/models/token_classifier.h"

namespace yoso {
namespace {

using Make = std::shared_ptr<Model> (*)(const ModelConfig&);

template <class Kind>
std::shared_ptr<Model> make(const ModelConfig& config) {
  return std::make_shared<Kind>(config);
}

const std::map<std::string, Make>& kinds() {
  static const std::map<std::string, Make> table = {
      {"classifier", make<Classifier>},
      {"dual_classifier", make<DualClassifier>},
      {"token_classifier", make<TokenClassifier>},
  };
  return table;
}

}  // namespace

std::shared_ptr<Model> make_model(const ModelConfig& config) {
  const auto kind = kinds().find(config.kind);
  if (kind == kinds().end()) {
    fail("model.kind is '", config.kind, "', expected one of ", listed(model_kinds()));
  }
  if (config.num_classes < 1) {
    fail("model.num_classes is ", config.num_classes, ", expected at least 1");
  }
  return kind->second(config);
}

std::vector<std::string> model_kinds() {
  std::vector<std::string> names;
  for (const auto& [name, make] : kinds()) names.push_back(name);
  return names;
}

}  // namespace yoso
