// SPDX-License-Identifier: Apache-2.0
#include "yoso/models/dual_classifier.h"

#include "yoso/core/check.h"

namespace yoso {

DualClassifier::DualClassifier(const ModelConfig& config)
    : pooling_(config.pooling),
      encoder_(std::make_shared<Encoder>(config.encoder, config.activation_checkpointing)),
      dense_(4 * config.encoder.hidden, config.encoder.feed_forward),
      logits_(config.encoder.feed_forward, config.num_classes),
      dropout_(config.encoder.dropout) {
  register_module("encoder", encoder_);
  register_module("dense", dense_);
  register_module("logits", logits_);
  register_module("dropout", dropout_);
}

at::Tensor DualClassifier::forward(const at::Tensor& tokens, const at::Tensor& mask,
                                   std::optional<int64_t> real_below) {
  if (tokens.dim() != 3 || tokens.size(1) != 2)
    fail("dual_classifier: tokens is ", tokens.sizes(), ", expected [batch, 2, length]");
  if (mask.sizes() != tokens.sizes())
    fail("dual_classifier: mask is ", mask.sizes(), ", expected ", tokens.sizes());
  const at::Tensor each = mask.flatten(0, 1);
  const at::Tensor pooled = encoder_->pooled(tokens.flatten(0, 1), each, pooling_, real_below);
  const at::Tensor pairs = pooled.unflatten(0, {tokens.size(0), 2});
  const at::Tensor x0 = pairs.select(1, 0), x1 = pairs.select(1, 1);
  const at::Tensor seen = at::cat({x0, x1, x0 * x1, x0 - x1}, -1);
  return logits_(dropout_(at::gelu(dense_(seen))));
}

}  // namespace yoso
