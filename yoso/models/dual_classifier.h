// Model kind `dual_classifier`: one label a pair of sequences. Both go through one encoder, each
// alone, and are pooled to x0 and x1; a layer sees [x0, x1, x0 * x1, x0 - x1].
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/modules/linear.h>

#include "yoso/models/encoder.h"
#include "yoso/models/model.h"
#include "yoso/nn/dropout.h"

namespace yoso {

class DualClassifier : public Model {
 public:
  explicit DualClassifier(const ModelConfig& config);

  // tokens and mask [B, 2, N].
  at::Tensor forward(const at::Tensor& tokens, const at::Tensor& mask,
                     std::optional<int64_t> real_below = {}) override;

 private:
  Pooling pooling_;
  std::shared_ptr<Encoder> encoder_;
  torch::nn::Linear dense_, logits_;
  nn::Dropout dropout_;
};

}  // namespace yoso
