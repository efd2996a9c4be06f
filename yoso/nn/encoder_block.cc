// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/encoder_block.h"

#include "yoso/core/check.h"

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

at::Tensor EncoderBlock::linear(const Residual& x, torch::nn::LayerNorm* norm,
                                const at::Tensor& weight, const at::Tensor& bias) {
  if (norm == nullptr) return linear(x.sum, weight, bias);
  if (x.unit.defined()) return linear_norm_apart(*norm, x.unit, weight, bias);
  return linear((*norm)(x.sum), weight, bias);
}

// A GPU is quicker with one product, for which a CPU would copy the weights in every forward.
std::vector<at::Tensor> EncoderBlock::project(const Residual& x, torch::nn::LayerNorm* norm) {
  if (x.sum.is_cuda()) {
    return linear(x, norm, at::cat({query_->weight, key_->weight, value_->weight}),
                  at::cat({query_->bias, key_->bias, value_->bias}))
        .chunk(3, -1);
  }
  const at::Tensor y = norm == nullptr ? x.sum : (*norm)(x.sum);
  return {linear(y, query_->weight, query_->bias), linear(y, key_->weight, key_->bias),
          linear(y, value_->weight, value_->bias)};
}

at::Tensor EncoderBlock::attend(const Residual& x, torch::nn::LayerNorm* norm,
                                const at::Tensor& mask, const RealTokens& real) {
  std::vector<at::Tensor> rows = project(x, norm);
  const auto heads = [&] {
    for (at::Tensor& r : rows) r = r.unflatten(-1, {heads_, r.size(-1) / heads_});
  };
  if (real.are_packed() && attention_->takes_packed(x.sum.device())) {
    heads();
    return attention_->attend_packed(rows[0], rows[1], rows[2], real).flatten(-2);
  }
  for (at::Tensor& r : rows) r = real.spread(r);
  heads();
  return real.pack(attention_->forward(rows[0], rows[1], rows[2], mask).flatten(-2));
}

at::Tensor EncoderBlock::feed_forward(const Residual& x, torch::nn::LayerNorm* norm) {
  return at::gelu(linear(x, norm, widen_->weight, widen_->bias));
}

Residual EncoderBlock::add(const Residual& x, const at::Tensor& rows,
                           const torch::nn::Linear& layer) {
  if (x.unit.defined()) {
    return add_branch(x.sum, at::linear(rows, layer->weight.view_as(layer->weight)), layer->bias,
                      dropout_->rate(), attention_norm_->options.eps());
  }
  return {x.sum + dropout_(linear(rows, layer->weight, layer->bias)), {}};
}

Residual EncoderBlock::forward(Residual x, const at::Tensor& mask, const RealTokens& real) {
  if (norm_ == NormPosition::kPre) {
    if (!x.unit.defined() && takes_norms_apart(x.sum)) {
      x = with_norm(x.sum, attention_norm_->options.eps());
    }
    const Residual attended = add(x, attend(x, &attention_norm_, mask, real), out_);
    return add(attended, feed_forward(attended, &feed_forward_norm_), narrow_);
  }
  x.sum = attention_norm_(add({x.sum, {}}, attend(x, nullptr, mask, real), out_).sum);
  return {feed_forward_norm_(add({x.sum, {}}, feed_forward(x, nullptr), narrow_).sum), {}};
}

at::Tensor EncoderBlock::forward(const at::Tensor& x, const at::Tensor& mask) {
  return forward(Residual{x, {}}, mask, {}).sum;
}

}  // namespace yoso::nn
