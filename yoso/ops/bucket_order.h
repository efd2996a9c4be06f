// Rows in the order of their codes, on the GPU: what kernels that work bucket by bucket walk along.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "yoso/core/array.h"
#include "yoso/ops/gpu_rows.h"

namespace yoso::cuda {

// The sequences, heads and hashes that are worked on at once.
struct Wave {
  int64_t first_sequence = 0, sequences = 0;
  int64_t first_head = 0, heads = 0;
  int64_t first_hash = 0, hashes = 0;

  constexpr int64_t segments() const { return sequences * heads * hashes; }
};

// The real rows of every segment (a sequence, head and hash of the wave) by bucket: bucket s of a
// segment holds slots begin[s] to begin[s + 1] - 1 of it. Which rows share a bucket is a matter of
// the codes alone; their order in it is a matter of their places in the sequence.
struct BucketOrder {
  Wave wave;
  int64_t buckets = 0;               // 2^T
  int64_t wave_rows = 0;             // of all sequences of the wave, masked ones too
  int64_t first_row = 0;             // of the wave's first sequence, among all of the side
  int64_t row_extent = 0;            // of a sequence, where that is one number: GpuSide::row_extent
  const int64_t* offsets = nullptr;  // else where sequences begin, on the GPU
  uint32_t* rows = nullptr;          // by slot: the row within its sequence
  uint32_t* slots = nullptr;         // by row: its slot, where it is real; null unless asked for
  uint32_t* begin = nullptr;         // [segments][begin_stride], of which buckets + 1 count
  int64_t begin_stride = 0;

#ifdef __CUDACC__
  // Counted within the wave.
  __device__ int64_t segment(int64_t sequence, int64_t head, int64_t hash) const {
    return (sequence * wave.heads + head) * wave.hashes + hash;
  }
  // Where the rows and slots of a segment begin.
  __device__ int64_t base(int64_t sequence, int64_t head, int64_t hash) const {
    const int64_t all = wave.first_sequence + sequence;
    const int64_t first = offsets ? offsets[all] : all * row_extent;
    return (head * wave.hashes + hash) * wave_rows + first - first_row;
  }
  __device__ const uint32_t* begin_of(int64_t segment) const {
    return begin + segment * begin_stride;
  }
#endif
};

// Sorts the rows of `codes` [B, H, M, N]. A stable counting sort by eight bits of the code, or two:
// O(rows + buckets) for a segment. Sequences must have fewer than 2^31 rows.
BucketOrder sort_by_code(const char* op, const ConstArray& codes, const GpuSide& side,
                         const Wave& wave, int64_t code_bits, bool want_slots, Stream& stream);

}  // namespace yoso::cuda
