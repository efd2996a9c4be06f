// Sparse segments on the GPU: where a side has few rows for its many buckets, a row of the other
// side meets few of them, and visits each itself; only crowded buckets are worth work of their own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/cuda/launch.h"
#include "yoso/ops/bucket_order.h"

namespace yoso::cuda {

// A segment is sparse when its rows are at most kSparse a bucket in the mean; a bucket of it is
// crowded when it holds more than kFew. Both depend on the sequence alone, whatever its batch.
constexpr int64_t kSparse = 2;
constexpr int kFew = 8;

__device__ inline bool is_sparse(const uint32_t* begin, int64_t buckets) {
  return begin[buckets] <= kSparse * buckets;
}

// The lanes of this lane's team, of `lanes` neighbours, a power of two.
__device__ inline unsigned team_of(int lanes) {
  const unsigned first = lanes == kWarp ? kFullWarp : (1u << lanes) - 1;
  return first << (threadIdx.x % kWarp / lanes * lanes);
}

// The codes of one row, by hash.
struct RowCodes {
  const void* data;
  int64_t stride;
  bool wide;

  __device__ RowCodes(const ConstArray& codes, int64_t batch, int64_t head, int64_t first_hash,
                      int64_t row)
      : stride(codes.row_stride), wide(codes.dtype == DType::kUint16) {
    data = wide ? static_cast<const void*>(codes.row<uint16_t>(batch, head, first_hash) + row)
                : static_cast<const void*>(codes.row<uint8_t>(batch, head, first_hash) + row);
  }
  __device__ uint32_t operator[](int64_t hash) const {
    return wide ? static_cast<const uint16_t*>(data)[hash * stride]
                : static_cast<const uint8_t*>(data)[hash * stride];
  }
};

// What one row meets under up to kHashes hashes: from the front of the list the rows of buckets
// that are not crowded, from its back the hashes whose buckets are. In the order of the hashes.
struct Met {
  static constexpr int kHashes = kWarp / 2, kCapacity = kHashes * kFew;

  uint32_t* list;  // [kCapacity], shared by the team
  int rows, crowded;

  __device__ uint32_t row(int k) const { return list[k]; }
  __device__ int hash(int k) const { return static_cast<int>(list[kCapacity - 1 - k]); }
};

// A team of `lanes` lanes (a power of two, all of them here) lists what a row meets under hashes
// first_hash to first_hash + Met::kHashes - 1 of the wave. `sequence` and `head` of the other
// side, whose order it is.
__device__ inline Met list_met(const BucketOrder& order, int64_t sequence, int64_t head,
                               const RowCodes& codes, int first_hash, int lanes, uint32_t* list) {
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const unsigned team = team_of(lanes);
  const int hashes = static_cast<int>(order.wave.hashes);
  const int per_lane = (Met::kHashes + lanes - 1) / lanes;
  const int first = first_hash + lane * per_lane;
  const int last = min(first + per_lane, min(first_hash + Met::kHashes, hashes));
  const uint32_t* begins = order.begin_of(order.segment(sequence, head, 0));
  int mine = 0;  // rows, and from bit 16 on crowded hashes
#pragma unroll 2
  for (int hash = first; hash < last; ++hash) {
    const uint32_t* begin = begins + hash * order.begin_stride + codes[hash];
    const int count = static_cast<int>(begin[1] - begin[0]);
    mine += count > kFew ? 1 << 16 : count;
  }
  __syncwarp(team);  // the list so far has been read
  int sum = mine;
  for (int step = 1; step < lanes; step *= 2) {
    const int below = __shfl_up_sync(team, sum, step, lanes);
    if (lane >= step) sum += below;
  }
  int row = (sum - mine) & 0xffff, crowded = (sum - mine) >> 16;
  const uint32_t* rows = order.rows + order.base(sequence, head, 0);
#pragma unroll 2
  for (int hash = first; hash < last; ++hash) {
    const uint32_t* begin = begins + hash * order.begin_stride + codes[hash];
    const int count = static_cast<int>(begin[1] - begin[0]);
    if (count > kFew) {
      list[Met::kCapacity - 1 - crowded++] = static_cast<uint32_t>(hash);
      continue;
    }
    const uint32_t* from = rows + hash * order.wave_rows + begin[0];
    for (int k = 0; k < count; ++k) list[row++] = from[k];
  }
  sum = __shfl_sync(team, sum, lanes - 1, lanes);
  __syncwarp(team);
  return {list, sum & 0xffff, sum >> 16};
}

}  // namespace yoso::cuda
