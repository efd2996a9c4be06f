// One vector a sequence.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "yoso/models/config.h"

namespace yoso {

// x [B, N, hidden] to [B, hidden]: the mean over tokens where mask [B, N] is true, or the first
// one.
inline at::Tensor pool(const at::Tensor& x, const at::Tensor& mask, Pooling pooling) {
  if (pooling == Pooling::kFirst) return x.select(1, 0);
  const at::Tensor real = x.masked_fill(mask.logical_not().unsqueeze(-1), 0);
  return real.sum(1) / mask.sum(1, /*keepdim=*/true).clamp_min(1);
}

}  // namespace yoso
