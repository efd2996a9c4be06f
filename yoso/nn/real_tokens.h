// The real tokens of a padded batch, one after another: layers work on tokens alone, but for
// attention, so that padding need not be computed.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace yoso::nn {

class RealTokens {
 public:
  RealTokens() = default;  // all tokens, where they are
  // Those of mask [B, N] bool (true = real), of which fewer than `real_below` are true. A CPU counts
  // them where the bound is missing; a GPU, which nobody may wait for, then leaves all tokens where
  // they are, as they are where it does not pay. Throws Error where the bound does not hold, as far
  // as a CPU knows; on a GPU real tokens beyond it are left out.
  explicit RealTokens(const at::Tensor& mask, std::optional<int64_t> real_below = {});

  // Whether leaving out padding pays for the copies: where it is more than a fifth of the tokens.
  static bool pays(int64_t real_below, int64_t tokens) { return 5 * real_below <= 4 * tokens; }

  // x [B, N, W], or [1, N, W] of every sequence, to [real_below, W]; or x itself. After the real
  // tokens stands padding, whose gradient has to be zero.
  at::Tensor pack(const at::Tensor& x) const;
  // Whether tokens are packed: then sequence b has rows offsets()[b] to offsets()[b + 1] - 1, at most
  // longest() of them. offsets() [B + 1] int64, on the device of the mask.
  bool are_packed() const { return mask_.defined(); }
  const at::Tensor& offsets() const { return offsets_; }
  int64_t longest() const { return mask_.size(1); }
  // x [R, W] to [B, N, W], or x itself. What stands in padding is finite and means nothing; its
  // gradient is dropped.
  at::Tensor spread(const at::Tensor& x) const;

 private:
  at::Tensor mask_;     // undefined: all tokens
  at::Tensor rows_;     // [R]: where packed tokens stand among the B N
  at::Tensor padding_;  // [R, 1] bool: those that are not real
  at::Tensor offsets_;
};

}  // namespace yoso::nn
