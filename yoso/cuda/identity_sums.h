// Sums of 16-bit rows by the tensor cores: rows of 32 columns that lie anywhere in shared memory are
// read by ldmatrix as B [8 columns][2 rows x 4 chunks of 8 columns], and the product with identities
// adds what several of them hold in one place. No number is unpacked, and sums are float.
//
// What is not finite in one column makes all eight of its chunk so.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "yoso/cuda/elements.h"
#include "yoso/cuda/launch.h"
#include "yoso/cuda/mma.h"
#include "yoso/cuda/shared_tile.h"

namespace yoso::cuda {

// [16][16]: two identities of 8 beside each other, zeros below. By all threads of a block, at least
// 256; load_identities comes after a barrier.
__device__ inline void store_identities(BFloat16 (&to)[16][16]) {
  if (threadIdx.x >= 256) return;
  const int row = threadIdx.x / 16, k = threadIdx.x % 16;
  to[row][k] = narrow<BFloat16>(k % 8 == row ? 1.0f : 0.0f);
}
// As A. From memory, or the compiler, which knows the numbers, makes four registers anew for every
// product.
__device__ inline void load_identities(const BFloat16 (&from)[16][16], uint32_t (&a)[4]) {
  load_matrices(shared_address(&from[threadIdx.x % 16][threadIdx.x % kWarp / 16 * 8]), a);
}

// `sums`: the first two of a product, which are of row t / 2 of the two (t = lane % 4). Afterwards
// a lane holds columns identity_column(lane) and the next one of it.
__device__ inline int identity_column(int lane) {
  const int g = lane / 4, t = lane % 4;
  return 8 * (2 * (t % 2) + g % 2) + g / 2 * 2;
}
__device__ inline float2 exchange(const float (&sums)[2]) {
  const bool odd = threadIdx.x / 4 % 2;
  const float other = __shfl_xor_sync(kFullWarp, odd ? sums[0] : sums[1], 4);
  return odd ? float2{other, sums[1]} : float2{sums[0], other};
}

}  // namespace yoso::cuda
