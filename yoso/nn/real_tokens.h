// The real tokens of a padded batch, one after another: layers work on tokens alone, but for
// attention, so that padding need not be computed.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace yoso::nn {

class RealTokens {
 public:
  RealTokens() = default;  // all tokens, where they are
  // Those of mask [B, N] bool (true = real). All, where they are, on a GPU, whose steps are recorded
  // by shape, and where leaving out the padding, less than a fifth, would not pay for the copies.
  explicit RealTokens(const at::Tensor& mask);

  // x [B, N, W] to [R, W], or x itself.
  at::Tensor pack(const at::Tensor& x) const;
  // x [R, W] to [B, N, W], or x itself. What stands in padding is finite and means nothing; its
  // gradient is dropped.
  at::Tensor spread(const at::Tensor& x) const;

 private:
  at::Tensor mask_;   // undefined: all tokens
  at::Tensor rows_;   // [R]: where real tokens stand among the B N
  at::Tensor place_;  // [B N]: which real token stands there; of padding, the one before
};

}  // namespace yoso::nn
