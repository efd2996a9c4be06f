// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/encoder_block.h"

#include "yoso/core/check.h"
#include "yoso/nn/layer_norm.h"

namespace yoso::nn {
namespace {

const EncoderBlockConfig& checked(const EncoderBlockConfig& config) {
  if (config.attention.heads < 1) {
    fail("attention.heads is ", config.attention.heads, ", expected at least 1");
  }
  if (config.hidden < 1 || config.hidden % config.attention.heads != 0) {
    fail("hidden is ", config.hidden,
         ", expected a multiple of attention.heads = ", config.attention.heads);
  }
  if (config.feed_forward < 1) {
    fail("feed_forward is ", config.feed_forward, ", expected at least 1");
  }
  if (!(config.dropout >= 0 && config.dropout < 1)) {
    fail("dropout is ", config.dropout, ", expected at least 0 and below 1");
  }
  return config;
}

torch::nn::LayerNorm layer_norm(const EncoderBlockConfig& config) {
  return torch::nn::LayerNorm(
      torch::nn::LayerNormOptions({config.hidden}).eps(config.norm_epsilon));
}

AttentionConfig attention_config(const EncoderBlockConfig& config) {
  AttentionConfig attention = config.attention;
  attention.head_width = config.hidden / attention.heads;
  return attention;
}

}  // namespace

EncoderBlock::EncoderBlock(const EncoderBlockConfig& config)
    : heads_(checked(config).attention.heads),
      norm_(config.norm),
      query_(config.hidden, config.hidden),
      key_(config.hidden, config.hidden),
      value_(config.hidden, config.hidden),
      out_(config.hidden, config.hidden),
      widen_(config.hidden, config.feed_forward),
      narrow_(config.feed_forward, config.hidden),
      attention_norm_(layer_norm(config)),
      feed_forward_norm_(layer_norm(config)),
      dropout_(config.dropout),
      attention_(make_attention(attention_config(config))) {
  register_module("query", query_);
  register_module("key", key_);
  register_module("value", value_);
  register_module("out", out_);
  register_module("widen", widen_);
  register_module("narrow", narrow_);
  register_module("attention_norm", attention_norm_);
  register_module("feed_forward_norm", feed_forward_norm_);
  register_module("dropout", dropout_);
  register_module("attention", attention_);
}

// torch::nn::Linear adds the bias in a pass of its own. Autocast keeps one narrow copy of a leaf
// and sums its gradients narrowly; a view is no leaf.
at::Tensor EncoderBlock::linear(const at::Tensor& x, const at::Tensor& weight,
                                const at::Tensor& bias) {
  return at::linear(x, weight.view_as(weight), bias.view_as(bias));
}

at::Tensor EncoderBlock::linear(const at::Tensor& x, torch::nn::LayerNorm* norm,
                                const at::Tensor& weight, const at::Tensor& bias) {
  if (norm == nullptr) return linear(x, weight, bias);
  if (takes_norms_apart(x)) return linear_norm_apart(*norm, x, weight, bias);
  return linear((*norm)(x), weight, bias);
}

// A GPU is quicker with one product, for which a CPU would copy the weights in every forward.
std::vector<at::Tensor> EncoderBlock::project(const at::Tensor& x, torch::nn::LayerNorm* norm) {
  if (x.is_cuda()) {
    return linear(x, norm, at::cat({query_->weight, key_->weight, value_->weight}),
                  at::cat({query_->bias, key_->bias, value_->bias}))
        .chunk(3, -1);
  }
  const at::Tensor y = norm == nullptr ? x : (*norm)(x);
  return {linear(y, query_->weight, query_->bias), linear(y, key_->weight, key_->bias),
          linear(y, value_->weight, value_->bias)};
}

at::Tensor EncoderBlock::attend(const at::Tensor& x, torch::nn::LayerNorm* norm,
                                const at::Tensor& mask) {
  std::vector<at::Tensor> rows = project(x, norm);
  for (at::Tensor& r : rows) r = r.view({x.size(0), x.size(1), heads_, x.size(2) / heads_});
  const at::Tensor mixed = attention_->forward(rows[0], rows[1], rows[2], mask);
  return dropout_(linear(mixed.reshape(x.sizes()), out_->weight, out_->bias));
}

at::Tensor EncoderBlock::feed_forward(const at::Tensor& x, torch::nn::LayerNorm* norm) {
  return dropout_(linear(at::gelu(linear(x, norm, widen_->weight, widen_->bias)), narrow_->weight,
                         narrow_->bias));
}

at::Tensor EncoderBlock::forward(const at::Tensor& x, const at::Tensor& mask) {
  if (norm_ == NormPosition::kPre) {
    const at::Tensor attended = x + attend(x, &attention_norm_, mask);
    return attended + feed_forward(attended, &feed_forward_norm_);
  }
  const at::Tensor attended = attention_norm_(x + attend(x, nullptr, mask));
  return feed_forward_norm_(attended + feed_forward(attended, nullptr));
}

}  // namespace yoso::nn
