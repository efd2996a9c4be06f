// SPDX-License-Identifier: Apache-2.0
#include "yoso/models/token_classifier.h"

namespace yoso {

TokenClassifier::TokenClassifier(const ModelConfig& config)
    : encoder_(std::make_shared<Encoder>(config.encoder, config.activation_checkpointing)),
      logits_(config.encoder.hidden, config.num_classes) {
  register_module("encoder", encoder_);
  register_module("logits", logits_);
}

at::Tensor TokenClassifier::forward(const at::Tensor& tokens, const at::Tensor& mask,
                                    std::optional<int64_t> real_below) {
  return logits_(encoder_->forward(tokens, mask, real_below));
}

}  // namespace yoso
