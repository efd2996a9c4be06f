// One vector a sequence.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>

#include "yoso/models/config.h"

namespace yoso {

// x [B, N, hidden], finite also in padding, to [B, hidden]: the mean over tokens where mask [B, N] is
// true (0 where none is), or the first one. Of the type of x; sums of 16 bits are rounded to it once.
inline at::Tensor pool(const at::Tensor& x, const at::Tensor& mask, Pooling pooling) {
  if (pooling == Pooling::kFirst) return x.select(1, 0);
  // As a product: one pass over x. In the type of x, which autocast would narrow.
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const at::Tensor sum = at::bmm(mask.unsqueeze(1).to(x.scalar_type()), x).squeeze(1);
  return sum / mask.sum(1, /*keepdim=*/true).clamp_min(1);
}

}  // namespace yoso
