// Attention kinds behind one interface. Adding one: a file pair, a line in registry.cc, a recipe.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <string>
#include <vector>

#include "yoso/core/check.h"
#include "yoso/nn/config.h"
#include "yoso/nn/real_tokens.h"

namespace yoso::nn {

// What stands between the projections of a block: heads in, heads out.
class Attention : public torch::nn::Module {
 public:
  // query, key, value [B, N, H, D]; mask [B, N] bool (true = real) or undefined. Returns
  // [B, N, H, D]. Masked tokens have no effect on real ones; their own rows are 0 or finite.
  virtual at::Tensor forward(const at::Tensor& query, const at::Tensor& key,
                             const at::Tensor& value, const at::Tensor& mask) = 0;

  // Whether attend_packed() is there for tokens on this device; others take padded ones.
  virtual bool takes_packed(at::Device) const { return false; }
  // query, key, value [R, H, D], one sequence after another (real_tokens.h). Returns [R, H, D], 0 or
  // finite after the last sequence. Throws Error where it is not there.
  virtual at::Tensor attend_packed(const at::Tensor& /*query*/, const at::Tensor& /*key*/,
                                   const at::Tensor& /*value*/, const RealTokens& /*real*/) {
    fail("attention: packed tokens are given, expected padded ones: takes_packed() is false");
  }
};

// Throws Error when config.kind is unknown, listing the known ones.
std::shared_ptr<Attention> make_attention(const AttentionConfig& config);
std::vector<std::string> attention_kinds();  // sorted

}  // namespace yoso::nn
