// Which block of its hashes attention takes for the gradients of queries and keys
// (backward_hashes), drawn from the seed of its projections.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "yoso/core/array.h"
#include "yoso/core/random.h"
#include "yoso/ops/hash.h"

namespace yoso {

// One of 0 .. blocks - 1, all alike likely.
constexpr int64_t drawn_block(uint64_t seed, int64_t blocks) {
  // A stream of random numbers beside those of the projections (hash.cc), which count heads.
  constexpr uint64_t kStream = uint64_t{1} << 63;
  return Random(seed, kStream).below(static_cast<uint32_t>(blocks));
}

namespace cuda {

// Copies one block of the rows of codes [B, H, M, N] to block [B, H, R, N], R a divisor of M: for a
// seed that only the GPU knows, so that the address of the block is not known when work is queued.
void copy_drawn_block(const ConstArray& codes, const Array& block, const Seed& seed,
                      Stream& stream);

}  // namespace cuda
}  // namespace yoso
