// SPDX-License-Identifier: Apache-2.0
#include "yoso/models/classifier.h"

namespace yoso {

Classifier::Classifier(const ModelConfig& config)
    : pooling_(config.pooling),
      encoder_(std::make_shared<Encoder>(config.encoder, config.activation_checkpointing)),
      dense_(config.encoder.hidden, config.encoder.feed_forward),
      logits_(config.encoder.feed_forward, config.num_classes),
      dropout_(config.encoder.dropout) {
  register_module("encoder", encoder_);
  register_module("dense", dense_);
  register_module("logits", logits_);
  register_module("dropout", dropout_);
}

at::Tensor Classifier::forward(const at::Tensor& tokens, const at::Tensor& mask,
                               std::optional<int64_t> real_below) {
  const at::Tensor pooled = encoder_->pooled(tokens, mask, pooling_, real_below);
  return logits_(dropout_(at::gelu(dense_(pooled))));
}

}  // namespace yoso
