// Small buckets on tensor cores, pair by pair, for rows of 16 bits and one width.
//
// A warp takes as many neighbours as fit in its memory, so that tiles are full even where buckets
// hold a few rows, and forgets the products of different buckets. One product of a query and a key
// serves the gradients of both. Warps wait for no other: while some wait for their rows, others
// multiply.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/ops/bucket_products_mma.h"

namespace yoso::cuda {

constexpr int kStagedRows = kWarp;  // of each side: a row a lane
constexpr int kPairWarps = 2, kPairThreads = kPairWarps * kWarp;
constexpr int kBucketsPerWarp = 16, kBucketsPerBlock = kPairWarps * kBucketsPerWarp;

// Blocks at once on a multiprocessor, for which registers and shared memory are meant.
template <int kWidth>
constexpr int kPairBlocks = kWidth == 128 ? 3 : 6;

constexpr int64_t blocks_per_segment(int64_t buckets) {
  return (buckets + kBucketsPerBlock - 1) / kBucketsPerBlock;
}

// Of a warp: rows of queries [0] and keys [1], as SharedTile lays them, and 16 rows of sums on their
// way out, some columns at a time.
constexpr int kSumColumns = 32;

template <class T, int kWidth>
struct PairMemory {
  alignas(256) T factors[2][kStagedRows][kWidth];
  alignas(256) T rows[2][kStagedRows][kWidth];
  alignas(256) Part<T> out[16][kSumColumns];
};

// A run of buckets that fit, by their slots among queries and keys.
struct Group {
  int buckets = 0;
  int first[2], count[2];

  // Whether some rows of its tiles must not meet.
  __device__ bool is_mixed() const { return buckets > 1 || count[0] == 0 || count[1] == 0; }
};

// What a lane knows of its row of one side of a group.
struct LaneRow {
  float scale = 1;
  int bucket = 0;  // counted within the group; below 0: no row
};

// Products of 16 queries (rows) and 16 keys, the first 8 keys and the others.
using PairProducts = float[2][4];

// The products times the scales of the keys, as A [queries x keys]. `scales`: of this lane's keys.
template <class T>
__device__ inline void weights_of_keys(const PairProducts& products, const float (&scales)[2][2],
                                       uint32_t (&a)[4]) {
#pragma unroll
  for (int x = 0; x < 4; ++x) {
    const int half = x / 2, row = x % 2 * 2;
    a[x] =
        pack<T>(products[half][row] * scales[half][0], products[half][row + 1] * scales[half][1]);
  }
}

// The products times the scales of the queries, as A [keys x queries].
template <class T>
__device__ inline void weights_of_queries(const PairProducts& products, const float (&scales)[2],
                                          uint32_t (&a)[4]) {
#pragma unroll
  for (int x = 0; x < 4; ++x) {
    const int half = x % 2, row = x / 2 * 2;
    a[x] = transposed(
        pack<T>(products[half][row] * scales[row / 2], products[half][row + 1] * scales[row / 2]));
  }
}

// The two sides of a segment, and a warp's work on it. kFewOthers: rows of a side that the other
// side visits itself.
//
// For every row of a group it makes the sum over the others of its bucket of (own factors . their
// factors) times their unit rows. Tiles without rows, and those without a common bucket, are
// multiplied like the others: code without branches is faster.
template <class T, int kWidth, int kFewOthers>
struct PairWork {
  using Tile = SharedTile<kWidth>;
  using Memory = PairMemory<T, kWidth>;

  View<T> sides[2];
  Memory& memory;

  // The rows of this lane's slots.
  __device__ void find(const Group& group, uint32_t (&rows)[2]) const {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      const bool there = lane < group.count[side];
      rows[side] = there ? sides[side].order[group.first[side] + lane] : 0;
    }
  }
  // Sends a group on its way, with zeros after its rows, and finds what lanes know of them but
  // their buckets.
  __device__ void stage(const Group& group, const uint32_t (&rows)[2], LaneRow (&mine)[2]) const {
    using Order = typename Tile::Order;
    constexpr int kChunks = kWidth / 8, kAtOnce = kWarp / kChunks;
    const int lane = threadIdx.x % kWarp, first = lane / kChunks, chunk = lane % kChunks;
    __syncwarp();  // what was there has been read
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      const uint32_t to = Order::offset(first, chunk);
      const uint32_t factors = shared_address(memory.factors[side]) + to;
      const uint32_t unit_rows = shared_address(memory.rows[side]) + to;
#pragma unroll 2
      for (int r = 0; r < kStagedRows; r += kAtOnce) {
        const uint32_t row = __shfl_sync(kFullWarp, rows[side], r + first);
        const bool there = r + first < group.count[side];
        sides[side].copy_factors(Order::further(factors, r), row, chunk, there);
        sides[side].copy_row(Order::further(unit_rows, r), row, chunk, there);
      }
      const float* scales = sides[side].scales;
      const bool there = lane < group.count[side];
      mine[side].scale = scales && there ? scales[rows[side]] : 1.0f;
      if (!there) mine[side].bucket = -1 - side;
    }
  }
  // Multiplies a group that was sent. Whether all sums of the warp are finite, as far as other
  // buckets of the group could have spoiled them.
  __device__ bool multiply(const Group& group, const LaneRow (&mine)[2]) const {
    wait_for_copies();
    __syncwarp();
    PairProducts products[2][2] = {};
    multiply_factors(products);
    if (group.is_mixed()) keep_within_buckets(mine, products);
    uint32_t weights[2][2][2][4];  // of the others of a side, by own tile and other tile
    weigh(mine, products, weights);
    return sum_rows(group, mine, weights);
  }
  // One bucket alone, all of it.
  __device__ void multiply_alone(const Group& group) const {
    uint32_t rows[2];
    find(group, rows);
    LaneRow mine[2] = {};
    stage(group, rows, mine);
    multiply(group, mine);
  }

 private:
  __device__ void multiply_factors(PairProducts (&products)[2][2]) const {
    const Tile queries{shared_address(memory.factors[0])}, keys{shared_address(memory.factors[1])};
#pragma unroll
    for (int step = 0; step < kWidth / 16; ++step) {
      uint32_t a[2][4], b[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        queries.load_a(Tile::a_lane(), 16 * i, step, a[i]);
        keys.load_columns(Tile::columns_lane(), 16 * i, step, b[i]);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          mma<T>(products[i][j][0], a[i], b[j][0], b[j][1]);
          mma<T>(products[i][j][1], a[i], b[j][2], b[j][3]);
        }
      }
    }
  }

  __device__ static void keep_within_buckets(const LaneRow (&mine)[2],
                                             PairProducts (&products)[2][2]) {
    const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
    int buckets[4];  // of this lane's queries
#pragma unroll
    for (int k = 0; k < 4; ++k) buckets[k] = __shfl_sync(kFullWarp, mine[0].bucket, 8 * k + g);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
#pragma unroll
      for (int column = 0; column < 4; ++column) {
        const int key = 16 * j + column / 2 * 8 + 2 * t + column % 2;
        const int bucket = __shfl_sync(kFullWarp, mine[1].bucket, key);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          if (buckets[k] != bucket) products[k / 2][j][column / 2][k % 2 * 2 + column % 2] = 0;
        }
      }
    }
  }

  // A weight times a scale may leave the range of half: there the rows are scaled instead.
  static constexpr bool kScaleRows = std::is_same_v<T, Float16>;
  __device__ static void weigh(const LaneRow (&mine)[2], const PairProducts (&products)[2][2],
                               uint32_t (&weights)[2][2][2][4]) {
    const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
    const auto scale_of = [&](int side, int row) {
      return kScaleRows ? 1.0f : __shfl_sync(kFullWarp, mine[side].scale, row);
    };
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float scales[2][2];
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        scales[x / 2][x % 2] = scale_of(1, 16 * j + x / 2 * 8 + 2 * t + x % 2);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) weights_of_keys<T>(products[i][j], scales, weights[0][i][j]);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float scales[2] = {scale_of(0, 16 * i + g), scale_of(0, 16 * i + 8 + g)};
#pragma unroll
      for (int j = 0; j < 2; ++j) weights_of_queries<T>(products[i][j], scales, weights[1][j][i]);
    }
  }

  // To the parts; none where there are at most kFewOthers others.
  __device__ bool sum_rows(const Group& group, const LaneRow (&mine)[2],
                           const uint32_t (&weights)[2][2][2][4]) const {
    const int t = threadIdx.x % 4;
    float check[2] = {};
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      if (kFewOthers >= 0 && group.count[1 - side] <= kFewOthers) continue;
      const Tile others{shared_address(memory.rows[1 - side])};
#pragma unroll 1  // as registers are few
      for (int panel = 0; panel < kWidth; panel += kSumColumns) {
        float sums[2][kSumColumns / 8][4] = {};
#pragma unroll
        for (int other = 0; other < 2; ++other) {
#pragma unroll
          for (int j = 0; j < kSumColumns / 16; ++j) {
            uint32_t b[4];
            others.load_rows(Tile::rows_lane(), 16 * other, panel / 16 + j, b);
            if constexpr (kScaleRows) {
#pragma unroll
              for (int k = 0; k < 4; ++k) {
                const int row = 16 * other + k % 2 * 8 + 2 * t;
                b[k] = scaled<T>(b[k], __shfl_sync(kFullWarp, mine[1 - side].scale, row),
                                 __shfl_sync(kFullWarp, mine[1 - side].scale, row + 1));
              }
            }
#pragma unroll
            for (int own = 0; own < 2; ++own) {
              mma<T>(sums[own][2 * j], weights[side][own][other], b[0], b[1]);
              mma<T>(sums[own][2 * j + 1], weights[side][own][other], b[2], b[3]);
            }
          }
        }
#pragma unroll
        for (int own = 0; own < 2; ++own) {
          // A row that is not finite spoils every sum of its columns: one row of two tells.
#pragma unroll
          for (const auto& sum : sums[own]) {
#pragma unroll
            for (int k = 0; k < 2; ++k) check[k] = fmaf(0.0f, sum[k], check[k]);
          }
          write_parts<Part<T>, kSumColumns>(
              sums[own], group.count[side] - 16 * own,
              sides[side].parts + int64_t{group.first[side] + 16 * own} * kWidth + panel, kWidth,
              shared_address(memory.out));
        }
      }
    }
    return __all_sync(kFullWarp, group.buckets == 1 || check[0] + check[1] == 0.0f);
  }
};

// A block kBucketsPerBlock buckets of a segment; large ones are left out.
template <class T, int kWidth>
__global__ void __launch_bounds__(kPairThreads, kPairBlocks<kWidth>)
    multiply_small(const __grid_constant__ Products p) {
  extern __shared__ __align__(256) unsigned char shared[];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int buckets = static_cast<int>(p.queries.order.buckets);
  const auto blocks = static_cast<uint32_t>(blocks_per_segment(buckets));
  const int first =
      static_cast<int>(blockIdx.x % blocks) * kBucketsPerBlock + warp * kBucketsPerWarp;
  const int count = min(kBucketsPerWarp, buckets - first);
  const Segment at(p, blockIdx.x / blocks);
  if (count <= 0 || at.is_visited(p)) return;
  const PairWork<T, kWidth, -1> work{
      .sides = {View<T>(p.queries, at, kWidth), View<T>(p.keys, at, kWidth)},
      .memory = reinterpret_cast<PairMemory<T, kWidth>*>(shared)[warp]};
  // A bucket a lane: where it ends among queries and keys, and where the first begins.
  int begin[2], end[2];
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    begin[side] = work.sides[side].first(first);
    end[side] = work.sides[side].last(first + min(lane, count - 1));
  }
  const auto end_of = [&](int side, int bucket) -> int {
    const int at_end = __shfl_sync(kFullWarp, end[side], max(bucket, 0));
    return bucket < 0 ? begin[side] : at_end;
  };
  const auto run_of = [&](int bucket, int num_buckets) -> Group {
    Group group{.buckets = num_buckets};
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      group.first[side] = end_of(side, bucket - 1);
      group.count[side] = end_of(side, bucket + num_buckets - 1) - group.first[side];
    }
    return group;
  };
  int next_bucket = 0;
  const auto next_group = [&]() -> Group {  // the next buckets that fit
    while (next_bucket < count) {
      bool fits = lane >= next_bucket && lane < count;
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        fits = end[side] - end_of(side, next_bucket - 1) <= kStagedRows && fits;
      }
      const int num_buckets = __popc(__ballot_sync(kFullWarp, fits));
      const int bucket = next_bucket;
      next_bucket += max(num_buckets, 1);
      if (num_buckets > 0) return run_of(bucket, num_buckets);
    }
    return {};
  };

  Group group = next_group();
  uint32_t rows[2];
  work.find(group, rows);
  for (int bucket = next_bucket - group.buckets; group.buckets > 0;) {
    LaneRow mine[2];
#pragma unroll
    for (int side = 0; side < 2; ++side) {
#pragma unroll 1
      for (int b = 0; b < group.buckets - 1; ++b) {
        mine[side].bucket += end_of(side, bucket + b) <= group.first[side] + lane;
      }
    }
    work.stage(group, rows, mine);
    const Group next = next_group();
    work.find(next, rows);  // while they are on their way
    if (!work.multiply(group, mine)) {
      // What is not finite must not leave its bucket, and zero times it is not zero.
      for (int b = 0; b < group.buckets; ++b) work.multiply_alone(run_of(bucket + b, 1));
    }
    group = next;
    bucket = next_bucket - next.buckets;
  }
}

// The same for listed buckets, one at a time; rows that meet few visit them themselves (kFew).
template <class T, int kWidth>
__global__ void __launch_bounds__(kPairThreads, kPairBlocks<kWidth>) multiply_crowded(Products p) {
  extern __shared__ __align__(256) unsigned char shared[];
  const int warp = threadIdx.x / kWarp;
  auto& memory = reinterpret_cast<PairMemory<T, kWidth>*>(shared)[warp];
  const int64_t buckets = p.queries.order.buckets, items = p.crowded[0];
  for (int64_t i = int64_t{blockIdx.x} * kPairWarps + warp; i < items;
       i += int64_t{gridDim.x} * kPairWarps) {
    const int64_t index = p.crowded[1 + i];
    const int bucket = static_cast<int>(index % buckets);
    const Segment at(p, index / buckets);
    const PairWork<T, kWidth, kFew> work{
        .sides = {View<T>(p.queries, at, kWidth), View<T>(p.keys, at, kWidth)}, .memory = memory};
    Group group{.buckets = 1};
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      group.first[side] = work.sides[side].first(bucket);
      group.count[side] = work.sides[side].last(bucket) - group.first[side];
    }
    work.multiply_alone(group);
  }
}

}  // namespace yoso::cuda
