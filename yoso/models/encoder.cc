// SPDX-License-Identifier: Apache-2.0
#include "yoso/models/encoder.h"

#include "yoso/core/check.h"
#include "yoso/models/pooling.h"
#include "yoso/nn/layer_norm.h"
#include "yoso/nn/recompute.h"

namespace yoso {
namespace {

const EncoderConfig& checked(const EncoderConfig& config) {
  const auto at_least_one = [](const char* name, int64_t value) {
    if (value < 1) fail("encoder.", name, " is ", value, ", expected at least 1");
  };
  at_least_one("vocab_size", config.vocab_size);
  at_least_one("max_length", config.max_length);
  at_least_one("hidden", config.hidden);
  at_least_one("layers", config.layers);
  return config;
}

}  // namespace

Encoder::Encoder(const EncoderConfig& config, bool activation_checkpointing)
    : config_(checked(config)),
      activation_checkpointing_(activation_checkpointing),
      token_embedding_(config.vocab_size, config.hidden),
      norm_(
          torch::nn::LayerNormOptions({config.hidden}).eps(nn::EncoderBlockConfig{}.norm_epsilon)),
      dropout_(config.dropout) {
  register_module("token_embedding", token_embedding_);
  {
    // As small as BERT's, and as the positions: with torch's deviation of 1 the tokens hide the
    // positions, and the reversal toy is not learnt by any attention (learning_test.cc).
    const at::NoGradGuard no_grad;
    token_embedding_->weight.normal_(0, 0.02);
  }
  position_embedding_ = register_parameter(
      "position_embedding",
      at::empty({config.max_length, config.hidden}).normal_(0, config.position_std));
  if (!config.ngrams.empty()) {
    ngram_embedding_ = register_module(
        "ngram_embedding",
        std::make_shared<nn::NgramEmbedding>(config.ngrams, config.ngram_buckets, config.hidden));
  }
  register_module("norm", norm_);
  register_module("dropout", dropout_);
  nn::EncoderBlockConfig block{.hidden = config.hidden,
                               .feed_forward = config.feed_forward,
                               .dropout = config.dropout,
                               .norm = config.norm,
                               .attention = config.attention};
  block.attention.max_length = config.max_length;
  const int64_t distinct = config.shared_layers ? 1 : config.layers;
  for (int64_t i = 0; i < distinct; ++i) {
    blocks_.push_back(register_module(join("block", i), std::make_shared<nn::EncoderBlock>(block)));
  }
}

nn::Residual Encoder::apply_block(nn::EncoderBlock& block, const nn::Residual& x,
                                  const at::Tensor& mask, const nn::RealTokens& real) {
  if (!activation_checkpointing_ || !at::GradMode::is_enabled()) {
    return block.forward(x, mask, real);
  }
  const auto step = [&block, mask, real](const at::Tensor& input) {
    return block.forward(nn::Residual{input, {}}, mask, real).sum;
  };
  return {nn::recompute_in_backward(step, x.sum, block.parameters()), {}};
}

Encoder::Encoded Encoder::encode(const at::Tensor& tokens, const at::Tensor& mask,
                                 std::optional<int64_t> real_below) {
  if (tokens.dim() != 2 || tokens.size(1) > config_.max_length) {
    fail("encoder: tokens is ", tokens.sizes(),
         ", expected [batch, at most max_length = ", config_.max_length, "]");
  }
  if (mask.sizes() != tokens.sizes() || mask.scalar_type() != at::kBool) {
    fail("encoder: mask is ", mask.scalar_type(), " ", mask.sizes(), ", expected Bool ",
         tokens.sizes());
  }
  const nn::RealTokens real(mask, real_below);
  const at::Tensor positions = position_embedding_.narrow(0, 0, tokens.size(1)).unsqueeze(0);
  at::Tensor x =
      token_embedding_(real.pack(tokens.unsqueeze(-1)).squeeze(-1)) + real.pack(positions);
  if (ngram_embedding_) {
    // What stands in masked tokens is not the text that real ones follow.
    x = x + real.pack(ngram_embedding_->forward(tokens.masked_fill(mask.logical_not(), 0)));
  }
  if (config_.norm == NormPosition::kPost) x = norm_(x);
  nn::Residual stream{dropout_(x), {}};
  for (int64_t i = 0; i < config_.layers; ++i) {
    nn::EncoderBlock& block = *blocks_[config_.shared_layers ? 0 : static_cast<size_t>(i)];
    stream = apply_block(block, stream, mask, real);
  }
  if (config_.norm == NormPosition::kPre && !stream.unit.defined()) {
    stream = nn::takes_norms_apart(stream.sum) ? nn::with_norm(stream.sum, norm_->options.eps())
                                               : nn::Residual{norm_(stream.sum), {}};
  }
  return {stream, real};
}

at::Tensor Encoder::forward(const at::Tensor& tokens, const at::Tensor& mask,
                            std::optional<int64_t> real_below) {
  const auto [stream, real] = encode(tokens, mask, real_below);
  return real.spread(stream.unit.defined() ? nn::norm_apart(norm_, stream.unit) : stream.sum);
}

// The mean of scaled and shifted norms is the mean of norms, scaled and shifted.
at::Tensor Encoder::pooled(const at::Tensor& tokens, const at::Tensor& mask, Pooling pooling,
                           std::optional<int64_t> real_below) {
  const auto [stream, real] = encode(tokens, mask, real_below);
  if (!stream.unit.defined()) return pool(real.spread(stream.sum), mask, pooling);
  const at::Tensor x = nn::norm_apart(norm_, pool(real.spread(stream.unit), mask, pooling));
  if (pooling == Pooling::kFirst) return x;
  return x.masked_fill(mask.any(1, /*keepdim=*/true).logical_not(), 0);
}

}  // namespace yoso
