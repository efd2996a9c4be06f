// A stable counting sort of the rows that a block has loaded, by eight bits of their codes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "yoso/cuda/launch.h"

namespace yoso::cuda {

constexpr int kDigits = 256;
constexpr int kSortThreads = 256, kSortWarps = kSortThreads / kWarp;
static_assert(kSortThreads == kDigits, "a thread a digit");

// Rows and codes that a lane has loaded; a code of kNoRow: no row.
template <int kPerLane>
struct Loaded {
  uint32_t rows[kPerLane], codes[kPerLane];
};
constexpr uint32_t kNoRow = ~0u;

__device__ inline uint32_t digit_of(uint32_t code, int shift) {
  return code >> shift & (kDigits - 1);
}

// starts[w][s]: how many rows of digit s stand before those of warp w in this tile; returns how
// many this thread's digit has in the tile.
template <int kPerLane>
__device__ uint32_t count_digits(const Loaded<kPerLane>& loaded, int shift,
                                 uint32_t (&starts)[kSortWarps][kDigits]) {
  for (int w = 0; w < kSortWarps; ++w) starts[w][threadIdx.x] = 0;
  __syncthreads();
#pragma unroll
  for (const uint32_t code : loaded.codes) {
    if (code != kNoRow) atomicAdd(&starts[threadIdx.x / kWarp][digit_of(code, shift)], 1u);
  }
  __syncthreads();
  uint32_t total = 0;
  for (int w = 0; w < kSortWarps; ++w) {
    const uint32_t mine = starts[w][threadIdx.x];
    starts[w][threadIdx.x] = total;
    total += mine;
  }
  return total;
}

// The sum of `count` over the threads before this one.
__device__ inline uint32_t sum_before(uint32_t count, uint32_t (&warp_sums)[kSortWarps]) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  uint32_t sum = count;
  for (int step = 1; step < kWarp; step *= 2) {
    const uint32_t below = __shfl_up_sync(kFullWarp, sum, step);
    if (lane >= step) sum += below;
  }
  if (lane == kWarp - 1) warp_sums[warp] = sum;
  __syncthreads();
  for (int w = 0; w < warp; ++w) sum += warp_sums[w];
  return sum - count;
}

// The lanes with a row of the same digit, where this lane has one. By eight votes: with
// __match_any_sync, which takes the digits of a warp one by one, a sort takes 1.5 times as long.
__device__ inline unsigned peers_of(uint32_t digit, bool real) {
  unsigned peers = __ballot_sync(kFullWarp, real);
#pragma unroll
  for (int bit = 0; 1 << bit < kDigits; ++bit) {
    const bool one = digit >> bit & 1;
    const unsigned ones = __ballot_sync(kFullWarp, one);
    peers &= one ? ones : ~ones;
  }
  return peers;
}

// The slots of the rows that this lane has loaded; `starts`: where those of this warp begin.
template <int kPerLane>
__device__ void find_slots(const Loaded<kPerLane>& loaded, int shift, uint32_t* starts,
                           uint32_t (&slots)[kPerLane]) {
  const unsigned before = (1u << threadIdx.x % kWarp) - 1;
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) {
    const bool real = loaded.codes[k] != kNoRow;
    const uint32_t digit = digit_of(loaded.codes[k], shift);
    const unsigned peers = peers_of(digit, real);
    const uint32_t start = real ? starts[digit] : 0;
    __syncwarp();
    slots[k] = start + __popc(peers & before);
    if (real && (peers & before) == 0) starts[digit] = start + __popc(peers);
    __syncwarp();
  }
}

}  // namespace yoso::cuda
