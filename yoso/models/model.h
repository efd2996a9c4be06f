// Models that a task trains: tokens in, logits out.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <string>
#include <vector>

#include "yoso/models/config.h"

namespace yoso {

class Model : public torch::nn::Module {
 public:
  // tokens [B, N] int64, mask [B, N] bool (true = real), on the model's device. classifier: [B,
  // num_classes]; token_classifier: [B, N, num_classes]; dual_classifier takes [B, 2, N] and gives
  // [B, num_classes].
  virtual at::Tensor forward(const at::Tensor& tokens, const at::Tensor& mask) = 0;

  at::Device device() const { return parameters().front().device(); }
};

// Initialises parameters from torch's default generator. Throws Error on an unknown kind.
std::shared_ptr<Model> make_model(const ModelConfig& config);
std::vector<std::string> model_kinds();

}  // namespace yoso
