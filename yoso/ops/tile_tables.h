// Tables of bucket sums on Hopper, for codes of eight bits: tile by tile of a sequence through shared
// memory, so that the rows of all buckets are read from there and not from the second-level cache.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "yoso/core/array.h"
#include "yoso/ops/bucket_order.h"
#include "yoso/ops/gpu_rows.h"

namespace yoso::cuda {

constexpr int kTableColumns = 32;  // of a slice of a table
constexpr int kTableTileRows = 1536;

// Whether the current device has the shared memory for it (sm_90 and sm_100 do, sm_120 does not).
bool can_sum_by_tiles();

// share times the sums of the real rows of every bucket of the wave:
// tables [sequences][heads][V / kTableColumns][hashes][256][kTableColumns]. `values` [B, H, N, V] begin on
// boundaries of 16 bytes, V is a multiple of kTableColumns; `codes` [B, H, M, N] have eight bits;
// `tiles`: side.tiles(kTableTileRows). Every sum is in an order that depends on the places in the
// sequence alone.
void sum_by_tiles(const char* op, const ConstArray& values, const ConstArray& codes,
                  const GpuSide& side, const Tiles& tiles, const Wave& wave, float share,
                  BFloat16* tables, Stream& stream);

}  // namespace yoso::cuda
