// Encoder block: attention and a GELU feed-forward, each with a residual sum and a layer norm.
//
//   kPre:  x += dropout(attend(norm(x)));     x += dropout(feed_forward(norm(x)))
//   kPost: x = norm(x + dropout(attend(x)));  x = norm(x + dropout(feed_forward(x)))
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include "yoso/nn/attention.h"
#include "yoso/nn/dropout.h"
#include "yoso/nn/layer_norm.h"
#include "yoso/nn/real_tokens.h"

namespace yoso::nn {

struct EncoderBlockConfig {
  int64_t hidden = 64;  // a multiple of attention.heads
  int64_t feed_forward = 128;
  double dropout = 0.1;
  NormPosition norm = NormPosition::kPre;
  double norm_epsilon = 1e-5;
  AttentionConfig attention;
};

class EncoderBlock : public torch::nn::Module {
 public:
  // Throws Error when hidden is not a multiple of heads.
  explicit EncoderBlock(const EncoderBlockConfig& config);

  // x [B, N, hidden], mask [B, N] bool (true = real) or undefined. Returns [B, N, hidden].
  at::Tensor forward(const at::Tensor& x, const at::Tensor& mask);
  // The same of a stream whose norms may be taken apart already, and of packed tokens: then
  // [R, hidden].
  Residual forward(Residual x, const at::Tensor& mask, const RealTokens& real);

 private:
  // Of norm(x); of x where the norm is null.
  std::vector<at::Tensor> project(const Residual& x, torch::nn::LayerNorm* norm);
  at::Tensor attend(const Residual& x, torch::nn::LayerNorm* norm, const at::Tensor& mask,
                    const RealTokens& real);
  at::Tensor feed_forward(const Residual& x, torch::nn::LayerNorm* norm);
  static at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
  static at::Tensor linear(const Residual& x, torch::nn::LayerNorm* norm, const at::Tensor& weight,
                           const at::Tensor& bias);
  // x + dropout(layer(rows))
  Residual add(const Residual& x, const at::Tensor& rows, const torch::nn::Linear& layer);

  int64_t heads_;
  NormPosition norm_;
  torch::nn::Linear query_, key_, value_, out_, widen_, narrow_;
  torch::nn::LayerNorm attention_norm_, feed_forward_norm_;
  Dropout dropout_;
  std::shared_ptr<Attention> attention_;
};

}  // namespace yoso::nn
