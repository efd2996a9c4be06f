// Sums over all pairs of real rows of two sides: what expected attention and its gradients are made
// of. For every row i of the fixed side, over the rows j of the moving side,
//
//   Sum::kValues  sum_j p(x_ij) values_j        x_ij = row_i . row_j, both scaled to unit rows
//   Sum::kRows    sum_j slope(x_ij) (values_i . values_j) row_j
//   Sum::kBoth    both
//
// out: queries fixed, keys moving, kValues. query_grad: the same with kRows, where a query's values
// are its G. value_grad and key_grad: keys fixed, queries of all heads that share them moving.
//
// This file has the kernel for all types and widths, in float on CUDA cores: tiles of kPairTile x
// kPairTile pairs, 4 x 4 a thread. The order of a sum is that of the real rows of the sequence.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/ops/pair_side.h"
#include "yoso/ops/pair_weights.h"

namespace yoso::cuda {

struct PairSums {
  PairSide fixed, moving;
  Tiles tiles;  // of the fixed side
  PairWeight weight;
  Array values_out;  // [B, H, N, V] of the fixed side, where the sum of values is wanted
  Array rows_out;    // [B, H, N, D] of the fixed side, where the sum of rows is

  // Heads of the moving side that the fixed side's head meets.
  __device__ int64_t first_head(int64_t head) const {
    return head * moving.rows.heads / fixed.rows.heads;
  }
  __device__ int64_t heads() const {
    return moving.rows.heads < fixed.rows.heads ? 1 : moving.rows.heads / fixed.rows.heads;
  }
};

constexpr int kPairTile = 64, kPairThreads = 256;
constexpr int kPairStep = 32;                 // columns of rows that a product takes at a time
constexpr int kPairStride = kPairTile + 4;    // floats: 16 bytes more, against bank conflicts
constexpr int kPairChunks = 256 / kPairTile;  // of kPairTile columns of a sum

// Columns first .. first + kColumns - 1 of kPairTile rows at `places` (-1: zeros), in float.
// kTransposed: to[column][row], else to[row][column].
template <int kColumns, bool kTransposed>
__device__ void load_pair_tile(const ConstArray& x, const ConstArray& scale, int64_t batch,
                               int64_t head, const int64_t* places, int64_t first, float* to) {
  const int64_t base = batch * x.batch_stride + head * x.head_stride;
  const float* scales = scale.data ? scale.row<float>(batch, head, 0) : nullptr;
  const int column = static_cast<int>(threadIdx.x) % kColumns;
  for (int row = static_cast<int>(threadIdx.x) / kColumns; row < kPairTile;
       row += kPairThreads / kColumns) {
    const int64_t place = places[row], c = first + column;
    float value = 0;
    if (place >= 0 && c < x.cols) {
      value = load_as_float(x.data, x.dtype, base + place * x.row_stride + c);
      if (scales) value *= scales[place];
    }
    to[kTransposed ? column * kPairStride + row : row * kPairStride + column] = value;
  }
}

// sum[r][c] += sum over kSteps of a[step][4 ty + r] b[step][4 tx + c].
template <int kSteps>
__device__ void multiply_pair_tile(const float* a, const float* b, float (&sum)[4][4]) {
  using Four = Vec<float, 4>;
  a += threadIdx.x / 16 * 4;
  b += threadIdx.x % 16 * 4;
#pragma unroll 8
  for (int s = 0; s < kSteps; ++s) {
    const Four left = Four::load(a + s * kPairStride), right = Four::load(b + s * kPairStride);
#pragma unroll
    for (int r = 0; r < 4; ++r) {
#pragma unroll
      for (int c = 0; c < 4; ++c) sum[r][c] = fmaf(left.at[r], right.at[c], sum[r][c]);
    }
  }
}

template <Sum kSum>
__global__ void __launch_bounds__(kPairThreads, 2) sum_pairs(PairSums a) {
  // Columns of both sides' rows, or moving rows to be summed; and the weights.
  __shared__ alignas(16) float tiles[2 * kPairStep * kPairStride];
  __shared__ alignas(16) float weights[kPairTile * kPairStride];  // [moving][fixed]
  __shared__ int64_t fixed_places[kPairTile], moving_places[kPairTile];
  static_assert(2 * kPairStep == kPairTile, "a tile of rows to be summed takes the whole of tiles");

  const int64_t head = blockIdx.x / a.tiles.total;
  const auto [b, tile] = a.tiles[blockIdx.x % a.tiles.total];
  const auto fixed = a.fixed[b], moving = a.moving[b];
  const int64_t first = tile * kPairTile;
  if (first >= fixed.count) return;
  const int tid = static_cast<int>(threadIdx.x), ty = tid / 16, tx = tid % 16;
  if (tid < kPairTile) fixed_places[tid] = first + tid < fixed.count ? fixed[first + tid] : -1;

  // x[r][c] += columns of fixed row 4 ty + r times moving row 4 tx + c.
  const auto multiply = [&](const ConstArray& left, const ConstArray& left_scale,
                            const ConstArray& right, const ConstArray& right_scale, int64_t other,
                            float(&x)[4][4]) {
    float* columns = tiles + kPairStep * kPairStride;
    for (int64_t c = 0; c < left.cols; c += kPairStep) {
      __syncthreads();
      load_pair_tile<kPairStep, true>(left, left_scale, fixed.batch, head, fixed_places, c, tiles);
      load_pair_tile<kPairStep, true>(right, right_scale, moving.batch, other, moving_places, c,
                                      columns);
      __syncthreads();
      multiply_pair_tile<kPairStep>(tiles, columns, x);
    }
  };

  static_assert(kSum != Sum::kBoth, "registers hold one sum");
  const Array& out = kSum == Sum::kValues ? a.values_out : a.rows_out;
  const ConstArray& summed = kSum == Sum::kValues ? a.moving.values : a.moving.rows;
  const ConstArray summed_scale = kSum == Sum::kValues ? ConstArray{} : a.moving.scale;
  float sums[kPairChunks][4][4] = {};
  const int64_t first_head = a.first_head(head);
  for (int64_t other = first_head; other < first_head + a.heads(); ++other) {
    for (int64_t j = 0; j < moving.count; j += kPairTile) {
      __syncthreads();
      if (tid < kPairTile) moving_places[tid] = j + tid < moving.count ? moving[j + tid] : -1;
      float x[4][4] = {}, g[4][4] = {};
      multiply(a.fixed.rows, a.fixed.scale, a.moving.rows, a.moving.scale, other, x);
      if constexpr (kSum == Sum::kRows) multiply(a.fixed.values, {}, a.moving.values, {}, other, g);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        Vec<float, 4> column;
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          column.at[r] = kSum == Sum::kValues ? a.weight.probability(x[r][c])
                                              : a.weight.slope(x[r][c]) * g[r][c];
        }
        column.store(weights + (4 * tx + c) * kPairStride + 4 * ty);
      }
#pragma unroll
      for (int chunk = 0; chunk < kPairChunks; ++chunk) {
        if (chunk * kPairTile >= summed.cols) break;
        __syncthreads();
        load_pair_tile<kPairTile, false>(summed, summed_scale, moving.batch, other, moving_places,
                                         chunk * kPairTile, tiles);
        __syncthreads();
        float part[4][4] = {};
        multiply_pair_tile<kPairTile>(weights, tiles, part);
#pragma unroll
        for (int r = 0; r < 4; ++r) {
#pragma unroll
          for (int c = 0; c < 4; ++c) sums[chunk][r][c] += part[r][c];
        }
      }
    }
  }

  __syncthreads();
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const int64_t place = fixed_places[4 * ty + r];
    if (place < 0) continue;
    const int64_t row =
        fixed.batch * out.batch_stride + head * out.head_stride + place * out.row_stride;
#pragma unroll
    for (int chunk = 0; chunk < kPairChunks; ++chunk) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int64_t column = chunk * kPairTile + 4 * tx + c;
        if (column < out.cols) store_as(out.data, out.dtype, row + column, sums[chunk][r][c]);
      }
    }
  }
}

template <Sum kSum>
void sum_all_pairs(const char* op, const PairSums& a, Stream& stream) {
  launch(op, stream.handle(), a.fixed.rows.heads * a.tiles.total, kPairThreads, 0, sum_pairs<kSum>,
         a);
}

}  // namespace yoso::cuda
