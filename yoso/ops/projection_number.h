// One number of a projection: what draw_projections() writes, on the CPU and on the GPU.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

#include "yoso/core/dtype.h"
#include "yoso/core/random.h"
#include "yoso/ops/hash.h"

#ifdef __CUDACC__
#define YOSO_HOST_DEVICE __host__ __device__
#else
#define YOSO_HOST_DEVICE
#endif

namespace yoso {

// Number i of head `head`. Signs are bits of Philox blocks; normals come from Box-Muller, four from
// the four words of a block, rounded to bfloat16: tensor cores then hold them exactly, and every
// backend multiplies by the same numbers.
YOSO_HOST_DEVICE inline float projection_number(Projection projection, uint64_t seed, uint64_t head,
                                                int64_t i) {
  if (projection == Projection::kHadamard) {
    const auto words = random_block(seed, head, static_cast<uint64_t>(i / 128));
    return words[static_cast<size_t>(i / 32 % 4)] >> (i % 32) & 1 ? -1.0f : 1.0f;
  }
  const auto words = random_block(seed, head, static_cast<uint64_t>(i / 4));
  const size_t pair = static_cast<size_t>(i % 4 / 2 * 2);
  const double u = (words[pair] + 1.0) * 0x1p-32;
  const double angle = 2.0 * std::numbers::pi * words[pair + 1] * 0x1p-32;
  const double radius = std::sqrt(-2.0 * std::log(u));
  const double normal = radius * (i % 2 ? std::sin(angle) : std::cos(angle));
  return to_float(from_float<BFloat16>(normal));
}

}  // namespace yoso
