// One side of sums over pairs of rows, on the GPU: its arrays and its real rows.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/cuda/elements.h"
#include "yoso/cuda/launch.h"
#include "yoso/cuda/stream.h"
#include "yoso/ops/gpu_rows.h"

namespace yoso::cuda {

// What is summed: pair_sums.h, collision_sums.h.
enum class Sum { kValues, kRows, kBoth };

// One side of the pairs. With a mask, the real rows of a sequence are listed: they take part as if
// the others were not there.
struct PairSide {
  ConstArray rows;                 // [B, H, N, D]
  ConstArray scale;                // [B, H, 1, N] float or absent
  ConstArray values;               // [B, H, N, V]
  Rows side;                       // offsets on the GPU
  const int64_t* real = nullptr;   // [B, N]: of each sequence, from its begin; absent: no mask
  const int64_t* count = nullptr;  // [sequences]: how many

  struct Sequence {
    int64_t batch, begin, count;
    const int64_t* real;
    // Where real row r stands in the arrays.
    __device__ int64_t operator[](int64_t r) const { return begin + (real ? real[r] : r); }
  };
  __device__ Sequence operator[](int64_t b) const {
    const yoso::Sequence s = sequence(side, b, rows.rows);
    if (!real) return {s.batch, s.begin, s.rows, nullptr};
    return {s.batch, s.begin, count[b], real + s.batch * rows.rows + s.begin};
  }
};

// A block lists the real rows of one sequence.
template <int kThreads>
__global__ void list_real_rows(Rows side, int64_t rows, int64_t* real, int64_t* count) {
  __shared__ int in_warp[kThreads / kWarp];
  const Sequence s = sequence(side, blockIdx.x, rows);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  int64_t* list = real + s.batch * rows + s.begin;
  int64_t total = 0;
  for (int64_t first = 0; first < s.rows; first += kThreads) {
    const int64_t i = first + threadIdx.x;
    const bool is_real = i < s.rows && s.is_real(i);
    const unsigned votes = __ballot_sync(kFullWarp, is_real);
    if (lane == 0) in_warp[warp] = __popc(votes);
    __syncthreads();
    int before = 0, all = 0;
    for (int w = 0; w < kThreads / kWarp; ++w) {
      if (w < warp) before += in_warp[w];
      all += in_warp[w];
    }
    if (is_real) list[total + before + __popc(votes & ((1u << lane) - 1))] = i;
    total += all;
    __syncthreads();
  }
  if (threadIdx.x == 0) count[blockIdx.x] = total;
}

// A thread eight columns: zeroes the masked rows of `out`, or those after the last sequence. A block
// has rows of one head.
template <int kThreads>
__global__ void clear_rows(Rows side, Array out, bool whole, bool masked) {
  constexpr int kSize = 8;
  const auto chunks = static_cast<uint32_t>((out.cols + kSize - 1) / kSize);
  const int64_t blocks = ceil_div(out.rows * chunks, kThreads), group = blockIdx.x / blocks;
  const int64_t item = blockIdx.x % blocks * kThreads + threadIdx.x;
  const int64_t i = item / chunks, batch = group / out.heads, c = item % chunks * kSize;
  if (i >= out.rows) return;
  const bool is_kept =
      masked ? side.mask[batch * side.mask_stride + i] : i < side.offsets[side.sequences];
  if (is_kept) return;
  const int64_t to =
      batch * out.batch_stride + group % out.heads * out.head_stride + i * out.row_stride + c;
  if (whole) {
    const int64_t words = kSize * size_of(out.dtype) / 16;
    uint4* at = static_cast<uint4*>(out.data) + to / kSize * words;
    for (int k = 0; k < words; ++k) at[k] = {};
  } else {
    for (int64_t k = 0; k < kSize && c + k < out.cols; ++k) {
      store_as(out.data, out.dtype, to + k, 0);
    }
  }
}

// The side of `rows`, with its real rows listed on the stream.
inline PairSide pair_side(const char* op, const GpuSide& side, const ConstArray& rows,
                          const ConstArray& scale, const ConstArray& values, Stream& stream) {
  PairSide pairs{.rows = rows, .scale = scale, .values = values, .side = side.rows()};
  if (pairs.side.mask == nullptr) return pairs;
  constexpr int kThreads = 512;
  int64_t* real = stream.allocate<int64_t>(rows.batch * rows.rows);
  int64_t* count = stream.allocate<int64_t>(side.sequences());
  launch(op, stream.handle(), side.sequences(), kThreads, 0, list_real_rows<kThreads>, side.rows(),
         rows.rows, real, count);
  pairs.real = real;
  pairs.count = count;
  return pairs;
}

inline void clear_rows(const char* op, const Rows& side, const Array& out, bool masked,
                       Stream& stream) {
  constexpr int kThreads = 256, kSize = 8;
  const bool whole = is_aligned(out) && out.cols % kSize == 0 && out.row_stride % kSize == 0 &&
                     out.head_stride % kSize == 0 && out.batch_stride % kSize == 0;
  const int64_t blocks = ceil_div(out.rows * ceil_div(out.cols, kSize), kThreads);
  launch(op, stream.handle(), out.batch * out.heads * blocks, kThreads, 0, clear_rows<kThreads>,
         side, out, whole, masked);
}

inline void clear_masked_rows(const char* op, const PairSide& side, const Array& out,
                              Stream& stream) {
  if (side.side.mask) clear_rows(op, side.side, out, true, stream);
}

}  // namespace yoso::cuda
