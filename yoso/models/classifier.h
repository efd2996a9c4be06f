// Model kind `classifier`: one label a sequence, from the mean of its real tokens or its first one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/modules/linear.h>

#include "yoso/models/encoder.h"
#include "yoso/models/model.h"
#include "yoso/nn/dropout.h"

namespace yoso {

class Classifier : public Model {
 public:
  explicit Classifier(const ModelConfig& config);

  at::Tensor forward(const at::Tensor& tokens, const at::Tensor& mask,
                     std::optional<int64_t> real_below = {}) override;

 private:
  Pooling pooling_;
  std::shared_ptr<Encoder> encoder_;
  torch::nn::Linear dense_, logits_;
  nn::Dropout dropout_;
};

}  // namespace yoso
