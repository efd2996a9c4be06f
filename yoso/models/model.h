// Models that a task trains: tokens in, logits out.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "yoso/models/config.h"

namespace yoso {

class Model : public torch::nn::Module {
 public:
  // tokens [B, N] int64, mask [B, N] bool (true = real), on the model's device. classifier: [B,
  // num_classes]; token_classifier: [B, N, num_classes]; dual_classifier takes [B, 2, N] and gives
  // [B, num_classes]. Fewer than `real_below` tokens are real, at least 1: where a GPU is told, it
  // leaves out the padding (nn/real_tokens.h), and real tokens beyond the bound as well.
  virtual at::Tensor forward(const at::Tensor& tokens, const at::Tensor& mask,
                             std::optional<int64_t> real_below = {}) = 0;

  at::Device device() const { return parameters().front().device(); }
};

// Initialises parameters from torch's default generator. Throws Error on an unknown kind.
std::shared_ptr<Model> make_model(const ModelConfig& config);
std::vector<std::string> model_kinds();

}  // namespace yoso
