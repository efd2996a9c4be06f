// Products of buckets on tensor cores, for queries, keys and values of 16 bits and one width.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/cuda/mma.h"
#include "yoso/cuda/shared_tile.h"
#include "yoso/ops/bucket_products.h"

namespace yoso::cuda {

// What the rows of a bucket are rounded to between the products and the sum over hashes.
template <class T>
using Part = std::conditional_t<std::is_same_v<T, BFloat16>, BFloat16, float>;

constexpr int64_t kMmaBits = 12;  // T at most: blocks look at every bucket, the empty ones too

// One half of one segment: everything a bucket's work needs, found once. Strides in bytes.
template <class T>
struct View {
  const char *factors, *rows;
  uint32_t factor_stride, row_stride;
  const float* scales;
  const uint32_t *begin, *order;
  Part<T>* parts;

  __device__ View(const Half& half, const Segment& at, int64_t width)
      : factors(reinterpret_cast<const char*>(Matrix<T>(half.factors, half, at).data)),
        rows(reinterpret_cast<const char*>(Matrix<T>(half.rows, half, at).data)),
        factor_stride(static_cast<uint32_t>(half.factors.row_stride * sizeof(T))),
        row_stride(static_cast<uint32_t>(half.rows.row_stride * sizeof(T))),
        scales(Scales(half, at).data),
        begin(at.begin(half)),
        order(at.rows(half)),
        parts(at.parts<Part<T>>(half, width)) {}

  __device__ int first(int bucket) const { return static_cast<int>(begin[bucket]); }
  __device__ int last(int bucket) const { return static_cast<int>(begin[bucket + 1]); }
  // Sends the lane's chunk of a row's factors and of the row itself on their way.
  __device__ void copy_factors(uint32_t to, uint32_t row, uint32_t chunk, bool there) const {
    copy_async<16>(to, factors + uint64_t{row} * factor_stride + 16 * chunk, there);
  }
  __device__ void copy_row(uint32_t to, uint32_t row, uint32_t chunk, bool there) const {
    copy_async<16>(to, rows + uint64_t{row} * row_stride + 16 * chunk, there);
  }
};

// 16 rows of sums, as fragments, to rows `stride` apart, of which the first `count` are there, by
// way of 16 rows of shared memory from `memory` on, a multiple of 256.
template <class P, int kColumns>
__device__ inline void write_parts(const float (&sums)[kColumns / 8][4], int count, P* parts,
                                   int stride, uint32_t memory) {
  using Order = ChunkOrder<kColumns* static_cast<int>(sizeof(P))>;
  constexpr int kChunks = Order::kChunks, kAtOnce = kWarp / kChunks;
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const uint32_t pair = 2 * t * sizeof(P);  // where it begins
  const uint32_t write_at = memory + Order::offset(g, pair / 16) + pair % 16;
  __syncwarp();
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t to = Order::further(write_at ^ 8 * j * sizeof(P), 8 * half);
      const float low = sums[j][2 * half], high = sums[j][2 * half + 1];
      if constexpr (sizeof(P) == 2) {
        store_word(to, pack<P>(low, high));
      } else {
        store_word(to, __float_as_uint(low));
        store_word(to + 4, __float_as_uint(high));
      }
    }
  }
  __syncwarp();
  const int first = lane / kChunks, chunk = lane % kChunks;
  const uint32_t read_at = memory + Order::offset(first, chunk);
  P* to = parts + first * stride + chunk * kVec<P>;
#pragma unroll
  for (int r = 0; r < 16; r += kAtOnce) {
    if (r + first < count) store_whole(to + r * stride, load_words(Order::further(read_at, r)));
  }
}

// Outer products: a block takes a large bucket, a warp kOuterColumns of D of
//   outer[d][v] = sum over a side of unit row[d] factors[v],
// whose sums are, rounded, the fragments of B of the other side's factors times outer. First the
// keys go by, then the queries, which meet the keys' outer product and make their own, then the
// keys' factors once more; where they fit, those have been kept. Where there are blocks for it,
// each makes the sums of one side only: the other goes by, then its own factors. Either way every
// sum has the same order.
constexpr int kOuterRows = 32, kOuterStages = 3;  // of a stage
constexpr int kKeptRows = 128;                    // factors of keys at most

template <int kWidth>
constexpr int kOuterColumns = kWidth < 64 ? 16 : 32;  // of D, of a warp
template <int kWidth>
constexpr int kOuterThreads = kWidth / kOuterColumns<kWidth>* kWarp;
// Blocks at once on a multiprocessor, for which registers and shared memory are meant.
template <int kWidth>
constexpr int kOuterBlocksAtOnce = kWidth == 128  ? 2
                                   : kWidth == 64 ? 5
                                                  : 8;

template <class T, int kWidth>
struct OuterMemory {
  struct Stage {
    T factors[kOuterRows][kWidth], rows[kOuterRows][kWidth];
  };
  alignas(256) Stage stages[kOuterStages];
  alignas(256) T kept[kKeptRows][kWidth];
  alignas(256) Part<T> out[kWidth / kOuterColumns<kWidth>][16 * kOuterColumns<kWidth>];
  alignas(16) float scales[kOuterStages][kOuterRows];
};

// Scales of the 16 rows that A [16 x 16] sums over, from this lane's first one on.
struct RowScales {
  Vec<float, 2> low, high;

  __device__ explicit RowScales(const float* scales)
      : low(Vec<float, 2>::load(scales)), high(Vec<float, 2>::load(scales + 8)) {}

  template <class T>
  __device__ void apply(uint32_t (&a)[4]) const {
    a[0] = scaled<T>(a[0], low.at[0], low.at[1]);
    a[1] = scaled<T>(a[1], low.at[0], low.at[1]);
    a[2] = scaled<T>(a[2], high.at[0], high.at[1]);
    a[3] = scaled<T>(a[3], high.at[0], high.at[1]);
  }
};

template <class T, int kWidth>
struct OuterSums {
  static constexpr int kTiles = kOuterColumns<kWidth> / 16;
  // 16 rows of D each: g, g + 8; columns of V: 8 j + 2 t..
  float sums[kTiles][kWidth / 8][4] = {};

  // Adds rows first .. first + 15 of the tiles. `scales`: of row `first` on, or null.
  __device__ void add(const SharedTile<kWidth>& rows, const SharedTile<kWidth>& factors, int first,
                      const float* scales) {
    using Tile = SharedTile<kWidth>;
    const int warp = threadIdx.x / kWarp, t = threadIdx.x % 4;
    uint32_t a[kTiles][4];
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      rows.load_turned(Tile::columns_lane(), first, warp * kTiles + m, a[m]);
    }
    if (scales != nullptr) {
      const RowScales of_rows(scales + 2 * t);
#pragma unroll
      for (auto& rows_of_d : a) of_rows.apply<T>(rows_of_d);
    }
#pragma unroll
    for (int j = 0; j < kWidth / 16; ++j) {
      uint32_t b[4];
      factors.load_rows(Tile::rows_lane(), first, j, b);
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        mma<T>(sums[m][2 * j], a[m], b[0], b[1]);
        mma<T>(sums[m][2 * j + 1], a[m], b[2], b[3]);
      }
    }
  }
};

// Outer products rounded, as B [V x kOuterColumns].
template <class T, int kWidth>
struct OuterFactor {
  static constexpr int kColumns = kOuterColumns<kWidth>;
  uint32_t b[kWidth / 16][kColumns / 8][2];  // step along V, 8 columns of D, halves of the step

  __device__ explicit OuterFactor(const OuterSums<T, kWidth>& outer) {
#pragma unroll
    for (int step = 0; step < kWidth / 16; ++step) {
#pragma unroll
      for (int columns = 0; columns < kColumns / 8; ++columns) {
        const int half = columns % 2;
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const auto& sums = outer.sums[columns / 2][2 * step + k];
          b[step][columns][k] = pack<T>(sums[2 * half], sums[2 * half + 1]);
        }
      }
    }
  }
  // Factors of rows first .. first + 15 times this, of which `count` are there, to their parts.
  __device__ void multiply(const SharedTile<kWidth>& factors, int first, int count, Part<T>* parts,
                           uint32_t out) const {
    float results[kColumns / 8][4] = {};
#pragma unroll
    for (int step = 0; step < kWidth / 16; ++step) {
      uint32_t a[4];
      factors.load_a(SharedTile<kWidth>::a_lane(), first, step, a);
#pragma unroll
      for (int columns = 0; columns < kColumns / 8; ++columns) {
        mma<T>(results[columns], a, b[step][columns][0], b[step][columns][1]);
      }
    }
    write_parts<Part<T>, kColumns>(results, count, parts + threadIdx.x / kWarp * kColumns, kWidth,
                                   out);
  }
};

template <class T, int kWidth>
__global__ void __launch_bounds__(kOuterThreads<kWidth>, kOuterBlocksAtOnce<kWidth>)
    multiply_large(const __grid_constant__ Products p) {
  extern __shared__ __align__(256) unsigned char shared[];
  using Tile = SharedTile<kWidth>;
  auto& memory = *reinterpret_cast<OuterMemory<T, kWidth>*>(shared);
  constexpr int kChunks = kWidth / 8, kRowsAtOnce = kOuterThreads<kWidth> / kChunks;
  constexpr int kPasses = kOuterRows / kRowsAtOnce;
  const int thread = threadIdx.x, chunk = thread % kChunks, row = thread / kChunks;
  const Segment at(p, blockIdx.x / p.large.blocks);
  const uint32_t num_large = p.large.counts[at.number(p)];
  if (num_large == 0) return;
  const uint32_t* large = at.large(p);
  const View<T> queries(p.queries, at, kWidth), keys(p.keys, at, kWidth);
  const bool split = 2 * num_large <= p.large.blocks;
  const uint32_t items = split ? 2 * num_large : num_large;
  for (uint32_t item = blockIdx.x % p.large.blocks; item < items; item += p.large.blocks) {
    const int bucket = static_cast<int>(large[split ? item / 2 : item]);
    const int first_query = queries.first(bucket), num_queries = queries.last(bucket) - first_query;
    const int first_key = keys.first(bucket), num_keys = keys.last(bucket) - first_key;
    const bool keys_first = !split || item % 2 == 0, keep = !split && num_keys <= kKeptRows;
    const int key_steps = (num_keys + kOuterRows - 1) / kOuterRows;
    const int query_steps = (num_queries + kOuterRows - 1) / kOuterRows;
    const int first_steps = keys_first ? key_steps : query_steps;
    const int both_steps = key_steps + query_steps;
    const int num_steps = both_steps + (split || keep ? 0 : key_steps);

    // Of a step: its side, its rows in the bucket, and whether they make outer products.
    struct Step {
      bool of_keys;
      int first, count;
      bool sums;
    };
    const auto step_at = [&](int step) -> Step {
      const bool second = step >= first_steps && step < both_steps;
      const bool of_keys = second != keys_first;
      const int before = step < first_steps ? 0 : second ? first_steps : both_steps;
      const int first = (step - before) * kOuterRows;
      const int count = step >= num_steps ? 0 : (of_keys ? num_keys : num_queries) - first;
      return {of_keys, first, min(count, kOuterRows), step < first_steps || (second && !split)};
    };
    // The rows of this thread's places in a step, and the one whose scale it fetches.
    uint32_t found[kPasses], found_scale = 0;
    const auto find = [&](int number) {
      const Step step = step_at(number);
      const uint32_t* order =
          (step.of_keys ? keys.order + first_key : queries.order + first_query) + step.first;
#pragma unroll
      for (int k = 0; k < kPasses; ++k) {
        found[k] = row + kRowsAtOnce * k < step.count ? order[row + kRowsAtOnce * k] : 0;
      }
      found_scale = thread < step.count ? order[thread] : 0;
    };
    const auto stage = [&](int number) {
      const Step step = step_at(number);
      const View<T> side = step.of_keys ? keys : queries;
      auto& to = memory.stages[number % kOuterStages];
      const uint32_t rows = shared_address(to.rows);
      const uint32_t factors =
          shared_address(step.of_keys && keep ? memory.kept[step.first] : to.factors[0]);
      if (step.count > 0) {
#pragma unroll
        for (int k = 0; k < kPasses; ++k) {
          const int r = row + kRowsAtOnce * k;
          const uint32_t place = Tile::offset(r, chunk);
          side.copy_factors(factors + place, found[k], chunk, r < step.count);
          if (step.sums) {
            side.copy_row(rows + place, found[k], chunk, r < step.count);
          }
        }
        if (side.scales != nullptr && thread < kOuterRows) {
          copy_async<4>(shared_address(&memory.scales[number % kOuterStages][thread]),
                        side.scales + found_scale, thread < step.count);
        }
      }
      end_copy_group();
    };

    OuterSums<T, kWidth> sums;
    OuterFactor<T, kWidth> of_others(sums);
    const uint32_t out = shared_address(memory.out[thread / kWarp]);
    constexpr int kAhead = kOuterStages - 1;
    find(0);
#pragma unroll
    for (int number = 0; number < kAhead; ++number) {
      stage(number);
      find(number + 1);
    }
    for (int number = 0; number < num_steps; ++number) {
      wait_for_copies<kAhead - 1>();
      __syncthreads();
      stage(number + kAhead);
      find(number + kAhead + 1);
      if (number == first_steps) {  // the first side is through
        of_others = OuterFactor<T, kWidth>(sums);
        sums = {};
      }
      if (number == both_steps && !split) of_others = OuterFactor<T, kWidth>(sums);
      const Step step = step_at(number);
      const auto& stage_at = memory.stages[number % kOuterStages];
      const Tile rows{shared_address(stage_at.rows)};
      const Tile factors{
          shared_address(step.of_keys && keep ? memory.kept[step.first] : stage_at.factors[0])};
      const View<T> side = step.of_keys ? keys : queries;
      for (int tile = 0; tile < step.count; tile += 16) {
        if (step.sums) {
          const float* scales = memory.scales[number % kOuterStages] + tile;
          sums.add(rows, factors, tile, side.scales == nullptr ? nullptr : scales);
        }
        if (number >= first_steps) {
          const int slot = (step.of_keys ? first_key : first_query) + step.first + tile;
          of_others.multiply(factors, tile, step.count - tile, side.parts + int64_t{slot} * kWidth,
                             out);
        }
      }
    }
    if (keep) {
      if (query_steps == 0) sums = {};
      const OuterFactor<T, kWidth> of_queries(sums);
      const Tile factors{shared_address(memory.kept)};
      for (int tile = 0; tile < num_keys; tile += 16) {
        of_queries.multiply(factors, tile, num_keys - tile,
                            keys.parts + int64_t{first_key + tile} * kWidth, out);
      }
    }
    wait_for_copies<0>();
    __syncthreads();
  }
}

}  // namespace yoso::cuda
