// Model kind `token_classifier`: one label a token.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/modules/linear.h>

#include "yoso/models/encoder.h"
#include "yoso/models/model.h"

namespace yoso {

class TokenClassifier : public Model {
 public:
  explicit TokenClassifier(const ModelConfig& config);

  at::Tensor forward(const at::Tensor& tokens, const at::Tensor& mask,
                     std::optional<int64_t> real_below = {}) override;

 private:
  std::shared_ptr<Encoder> encoder_;
  torch::nn::Linear logits_;
};

}  // namespace yoso
