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

// One half of one segment: everything a bucket's work needs, found once.
template <class T>
struct View {
  Matrix<T> factors, rows;
  const float* scales;
  const uint32_t *begin, *order;
  Part<T>* parts;

  __device__ View(const Half& half, const Segment& at, int64_t width)
      : factors(half.factors, half, at),
        rows(half.rows, half, at),
        scales(Scales(half, at).data),
        begin(at.begin(half)),
        order(at.rows(half)),
        parts(at.parts<Part<T>>(half, width)) {}

  __device__ int first(int bucket) const { return static_cast<int>(begin[bucket]); }
  __device__ int last(int bucket) const { return static_cast<int>(begin[bucket + 1]); }
};

// Rows first .. first + count - 1 of `order`, columns `column` .. + kColumns - 1, on their way into
// shared memory; zeros up to a multiple of 16 rows.
template <class T, int kColumns, int kStride>
__device__ inline void stage_rows(const Matrix<T>& m, const uint32_t* order, int first, int count,
                                  int column, T (*to)[kStride]) {
  constexpr int kChunks = kColumns / 8, kAtOnce = kWarp / kChunks;
  const int lane = threadIdx.x % kWarp, c = lane % kChunks * 8;
  for (int r = lane / kChunks; r < (count + 15) / 16 * 16; r += kAtOnce) {
    const bool there = r < count;
    const T* from = there ? m.data + order[first + r] * m.stride + (column + c) : m.data;
    copy_async<16>(shared_address(&to[r][c]), from, there);
  }
}

// Where a warp turns fragments into rows.
template <class P, int kColumns>
struct RowsOut {
  alignas(16) P rows[16][kColumns + 16 / sizeof(P)];
};

// 16 rows of sums, as fragments, to consecutive parts, of which the first `count` are there.
template <class P, int kColumns>
__device__ inline void write_parts(const float (&sums)[kColumns / 8][4], int count, P* parts,
                                   int64_t stride, RowsOut<P, kColumns>& memory) {
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  __syncwarp();
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      P* to = &memory.rows[g + 8 * half][8 * j + 2 * t];
      const float low = sums[j][2 * half], high = sums[j][2 * half + 1];
      if constexpr (sizeof(P) == 2) {
        *reinterpret_cast<uint32_t*>(to) = pack<P>(low, high);
      } else {
        *reinterpret_cast<float2*>(to) = {low, high};
      }
    }
  }
  __syncwarp();
  constexpr int kChunks = kColumns / kVec<P>, kAtOnce = kWarp / kChunks;
  const int c = lane % kChunks * kVec<P>;
  P* to = parts + lane / kChunks * stride + c;
#pragma unroll
  for (int r = 0; r < 16; r += kAtOnce) {
    if (r + lane / kChunks < count) {
      Vec<P, kVec<P>>::load(&memory.rows[r + lane / kChunks][c]).store(to + r * stride);
    }
  }
}

// Small buckets: a block takes as many neighbours as fit in its memory, so that tiles are full even
// where buckets hold a few rows, and forgets the products of different buckets. A warp multiplies
// one of two tiles of one side, while the rows of the next group are on their way.
constexpr int kStagedRows = 32;  // of each side
constexpr int kSmallWarps = 4, kSmallThreads = kSmallWarps * kWarp;
constexpr int kBucketsPerBlock = 64;

constexpr int64_t blocks_per_segment(int64_t buckets) {
  return (buckets + kBucketsPerBlock - 1) / kBucketsPerBlock;
}

template <class T, int kWidth>
struct StagedSide {
  alignas(16) T factors[kStagedRows][kWidth + 8];
  alignas(16) T rows[kStagedRows][kWidth + 8];
  alignas(8) float scales[kStagedRows];
  alignas(2) uint8_t buckets[kStagedRows];  // of the rows, counted within the group
};

template <class T, int kWidth>
struct SmallMemory {
  StagedSide<T, kWidth> stages[2][2];  // of queries, keys
  RowsOut<Part<T>, kWidth> out[kSmallWarps];
  int begins[2][kBucketsPerBlock + 1];  // of queries, keys: slots
  struct Run {
    uint8_t first, count;
  } groups[kBucketsPerBlock];
  int num_groups;
};

// A run of small buckets, counted within the block: its slots on both sides.
struct Group {
  int bucket, count;
  int own, own_count, other, other_count;
};

template <class T, int kWidth>
__device__ inline Group group_of(const SmallMemory<T, kWidth>& memory, int of_keys, int bucket,
                                 int count) {
  const int *own = memory.begins[of_keys], *other = memory.begins[1 - of_keys];
  return {.bucket = bucket,
          .count = count,
          .own = own[bucket],
          .own_count = own[bucket + count] - own[bucket],
          .other = other[bucket],
          .other_count = other[bucket + count] - other[bucket]};
}

// A warp's work: as many of the next `buckets` buckets as fit are a group; large ones are left out.
template <class T, int kWidth>
__device__ inline void find_groups(SmallMemory<T, kWidth>& memory, int buckets) {
  const int lane = threadIdx.x % kWarp;
  int num_groups = 0;
  for (int bucket = 0; bucket < buckets;) {
    bool fits = bucket + lane < buckets;
    for (const auto& begins : memory.begins) {
      fits = fits && begins[min(bucket + lane + 1, buckets)] - begins[bucket] <= kStagedRows;
    }
    const int count = __popc(__ballot_sync(kFullWarp, fits));
    if (count > 0 && lane == 0) {
      memory.groups[num_groups] = {static_cast<uint8_t>(bucket), static_cast<uint8_t>(count)};
    }
    num_groups += count > 0;
    bucket += max(count, 1);
  }
  memory.num_groups = num_groups;
}

// What a warp stages of its side: factors or rows.
template <class T>
struct StagedArray {
  bool factors;
  Matrix<T> matrix;
  const float* scales;
  const uint32_t* order;
};

// Sends the rows of a group on their way, with zeros up to a multiple of 16. `mine`: the row of the
// lane-th slot.
template <class T, int kWidth>
__device__ inline void stage_group(const StagedArray<T>& a, const Group& group, uint32_t mine,
                                   const int* begins, StagedSide<T, kWidth>& to) {
  const int lane = threadIdx.x % kWarp;
  constexpr int kChunks = kWidth / 8, kAtOnce = kWarp / kChunks;
  const int c = lane % kChunks * 8;
  const auto from = reinterpret_cast<uintptr_t>(a.matrix.data + mine * a.matrix.stride);
  const uint32_t row =
      shared_address(a.factors ? &to.factors[lane / kChunks][c] : &to.rows[lane / kChunks][c]);
  for (int r = 0; r < group.own_count; r += 16) {
#pragma unroll
    for (int k = 0; k < 16; k += kAtOnce) {
      const int place = r + k + lane / kChunks;
      const auto* chunk = reinterpret_cast<const T*>(__shfl_sync(kFullWarp, from, place)) + c;
      copy_async<16>(row + (r + k) * 2 * (kWidth + 8), chunk, place < group.own_count);
    }
  }
  if (a.factors) {
    int bucket = 0;
    for (int b = 1; b < group.count; ++b) bucket += begins[group.bucket + b] - group.own <= lane;
    to.buckets[lane] = static_cast<uint8_t>(bucket);
  } else if (a.scales) {
    to.scales[lane] = lane < group.own_count ? a.scales[mine] : 0.0f;
  }
  end_copy_group();
}
static_assert(kStagedRows == kWarp, "a lane a row of a side");

// Rows tile .. tile + 15 of one side of a group: sum over the others of their bucket of (own
// factors . their factors) times their unit rows. Returns whether this lane's sums are finite, as
// far as other buckets of the group could have spoiled them. `parts`: of row `tile`.
template <class T, int kWidth>
__device__ bool multiply_tile(const StagedSide<T, kWidth>& own, int own_count, int tile,
                              const StagedSide<T, kWidth>& other, int other_count,
                              bool other_scaled, bool one_bucket, Part<T>* parts,
                              RowsOut<Part<T>, kWidth>& out) {
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  uint32_t a[kWidth / 16][4];
#pragma unroll
  for (int i = 0; i < kWidth / 16; ++i) {
    load_matrices(shared_address(&own.factors[tile + lane % 16][16 * i + lane / 16 * 8]), a[i]);
  }
  const uint32_t own_bucket[2] = {own.buckets[tile + g], own.buckets[tile + g + 8]};
  const int first_bucket = own.buckets[tile];
  const int last_bucket = own.buckets[min(tile + 16, own_count) - 1];
  float sums[kWidth / 8][4] = {};
  for (int k = 0; k < other_count; k += 16) {
    if (other.buckets[k] > last_bucket ||
        other.buckets[min(k + 16, other_count) - 1] < first_bucket) {
      continue;
    }
    float products[2][4] = {};
#pragma unroll
    for (int i = 0; i < kWidth / 16; ++i) {
      uint32_t b[4];
      load_matrices(
          shared_address(&other.factors[k + lane / 16 * 8 + lane % 8][16 * i + lane / 8 % 2 * 8]),
          b);
      mma<T>(products[0], a[i], b[0], b[1]);
      mma<T>(products[1], a[i], b[2], b[3]);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int column = k + 8 * half + 2 * t;
      if (!one_bucket) {
        const auto buckets = Vec<uint8_t, 2>::load(&other.buckets[column]);
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          if (buckets.at[x % 2] != own_bucket[x / 2]) products[half][x] = 0;
        }
      }
      if (other_scaled) {
        const auto scales = Vec<float, 2>::load(&other.scales[column]);
#pragma unroll
        for (int x = 0; x < 4; ++x) products[half][x] *= scales.at[x % 2];
      }
    }
    const uint32_t weights[4] = {
        pack<T>(products[0][0], products[0][1]), pack<T>(products[0][2], products[0][3]),
        pack<T>(products[1][0], products[1][1]), pack<T>(products[1][2], products[1][3])};
#pragma unroll
    for (int j = 0; j < kWidth / 16; ++j) {
      uint32_t b[4];
      load_transposed(
          shared_address(&other.rows[k + lane / 8 % 2 * 8 + lane % 8][16 * j + lane / 16 * 8]), b);
      mma<T>(sums[2 * j], weights, b[0], b[1]);
      mma<T>(sums[2 * j + 1], weights, b[2], b[3]);
    }
  }
  write_parts<Part<T>, kWidth>(sums, own_count - tile, parts, kWidth, out);
  if (one_bucket) return true;
  // A row that is not finite spoils every sum of its columns: one row of two tells.
  float check = 0;
#pragma unroll
  for (const auto& sum : sums) check += 0.0f * sum[0] + 0.0f * sum[1];
  return check == 0.0f;
}

// A block kBucketsPerBlock buckets of a segment; large ones are left out.
template <class T, int kWidth>
__global__ void __launch_bounds__(kSmallThreads, kWidth == 128 ? 2 : 4) multiply_small(Products p) {
  extern __shared__ __align__(16) unsigned char shared[];
  auto& memory = *reinterpret_cast<SmallMemory<T, kWidth>*>(shared);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int of_keys = warp / 2, tile = warp % 2 * 16;
  const int buckets = static_cast<int>(p.queries.order.buckets);
  const auto blocks = static_cast<uint32_t>(blocks_per_segment(buckets));
  const int first = static_cast<int>(blockIdx.x % blocks) * kBucketsPerBlock;
  const int count = min(kBucketsPerBlock, buckets - first);
  const Segment at(p, blockIdx.x / blocks);
  if (at.is_visited(p)) return;
  for (int b = threadIdx.x; b < 2 * (count + 1); b += kSmallThreads) {
    const uint32_t* begin = at.begin(b % 2 ? p.keys : p.queries);
    memory.begins[b % 2][b / 2] = static_cast<int>(begin[first + b / 2]);
  }
  __syncthreads();
  if (warp == 0) find_groups(memory, count);

  const Half &own_half = p.own(of_keys), &other_half = p.own(!of_keys);
  const bool factors = warp % 2 == 0, other_scaled = other_half.scale.data != nullptr;
  const StagedArray<T> array{
      .factors = factors,
      .matrix = Matrix<T>(factors ? own_half.factors : own_half.rows, own_half, at),
      .scales = Scales(own_half, at).data,
      .order = at.rows(own_half)};
  Part<T>* parts = at.parts<Part<T>>(own_half, kWidth) + tile * kWidth;
  __syncthreads();

  // Two groups ahead: the places of its rows; one ahead: the rows.
  int index = 0, alone = 0, alone_until = 0;  // buckets alone .. alone_until - 1 go singly
  const auto next_group = [&]() -> Group {
    if (alone < alone_until) return group_of(memory, of_keys, alone++, 1);
    const int i = index++;
    if (i >= memory.num_groups) return {};
    return group_of(memory, of_keys, memory.groups[i].first, memory.groups[i].count);
  };
  const auto row_of_lane = [&](const Group& group) -> uint32_t {
    return lane < group.own_count ? array.order[group.own + lane] : 0;
  };
  Group group{}, next = next_group();
  uint32_t mine = row_of_lane(next);
  for (int buffer = 0;; buffer ^= 1) {
    stage_group<T, kWidth>(array, next, mine, memory.begins[of_keys],
                           memory.stages[buffer ^ 1][of_keys]);
    const Group after = next_group();
    mine = row_of_lane(after);
    wait_for_copies<1>();
    __syncthreads();
    bool clean = true;
    if (tile < group.own_count) {
      const auto& stage = memory.stages[buffer];
      clean = multiply_tile<T, kWidth>(stage[of_keys], group.own_count, tile, stage[1 - of_keys],
                                       group.other_count, other_scaled, group.count == 1,
                                       parts + int64_t{group.own} * kWidth, memory.out[warp]);
    }
    if (__syncthreads_and(clean)) {
      if (next.count == 0) return;
      group = next;
      next = after;
    } else {
      // What is not finite must not leave its bucket, and zero times it is not zero.
      wait_for_copies<0>();
      index -= 2;
      alone = group.bucket;
      alone_until = group.bucket + group.count;
      group = {};
      next = next_group();
      mine = row_of_lane(next);
    }
  }
}

template <class T, int kWidth>
struct CrowdedMemory {
  StagedSide<T, kWidth> stages[2][2];  // of queries, keys
  RowsOut<Part<T>, kWidth> out[kSmallWarps];
};

// The same for listed buckets, one at a time; rows that meet few have visited them (kFew).
template <class T, int kWidth>
__global__ void __launch_bounds__(kSmallThreads, kWidth == 128  ? 2
                                                 : kWidth == 64 ? 4
                                                                : 6) multiply_crowded(Products p) {
  extern __shared__ __align__(16) unsigned char shared[];
  auto& memory = *reinterpret_cast<CrowdedMemory<T, kWidth>*>(shared);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int of_keys = warp / 2, tile = warp % 2 * 16;
  const Half &own_half = p.own(of_keys), &other_half = p.own(!of_keys);
  const bool factors = warp % 2 == 0, other_scaled = other_half.scale.data != nullptr;
  const int64_t buckets = p.queries.order.buckets, items = p.crowded[0];
  const int bits = __popcll(buckets - 1);
  struct Item {
    Group group;
    StagedArray<T> array;
    Part<T>* parts;
    uint32_t mine;  // the row of the lane-th slot
  };
  const auto item_at = [&](int64_t i) -> Item {
    const int64_t index = i < items ? p.crowded[1 + i] : 0;
    const Segment at(p, index >> bits);
    Item item{
        .group = {},
        .array = {.factors = factors,
                  .matrix = Matrix<T>(factors ? own_half.factors : own_half.rows, own_half, at),
                  .scales = Scales(own_half, at).data,
                  .order = at.rows(own_half)},
        .parts = nullptr,
        .mine = 0};
    if (i >= items) return item;
    const int64_t bucket = index & (buckets - 1);
    const uint32_t *own = at.begin(own_half) + bucket, *other = at.begin(other_half) + bucket;
    item.group = {.bucket = 0,
                  .count = 1,
                  .own = static_cast<int>(own[0]),
                  .own_count = static_cast<int>(own[1] - own[0]),
                  .other = static_cast<int>(other[0]),
                  .other_count = static_cast<int>(other[1] - other[0])};
    item.parts = at.parts<Part<T>>(own_half, kWidth) + (item.group.own + tile) * int64_t{kWidth};
    if (lane < item.group.own_count) item.mine = item.array.order[item.group.own + lane];
    return item;
  };
  int64_t i = blockIdx.x;
  Item next = item_at(i), item = next;
  item.group = {};  // nothing yet
  for (int buffer = 0;; buffer ^= 1) {
    stage_group<T, kWidth>(next.array, next.group, next.mine, /*begins=*/nullptr,
                           memory.stages[buffer ^ 1][of_keys]);
    i += gridDim.x;
    const Item after = item_at(i);
    wait_for_copies<1>();
    __syncthreads();
    if (tile < item.group.own_count && item.group.other_count > kFew) {
      const auto& stage = memory.stages[buffer];
      multiply_tile<T, kWidth>(stage[of_keys], item.group.own_count, tile, stage[1 - of_keys],
                               item.group.other_count, other_scaled, /*one_bucket=*/true,
                               item.parts, memory.out[warp]);
    }
    __syncthreads();
    if (next.group.count == 0) return;
    item = next;
    next = after;
  }
}

constexpr int kLargeThreads = 128, kLargeWarps = kLargeThreads / kWarp;

// Columns of D that an outer product covers at a time: 128 registers of a lane hold it.
template <int kWidth>
constexpr int kOuterColumns = kWidth <= 64 ? kWidth : 4096 / kWidth;

template <class T, int kWidth>
struct LargeMemory {
  static constexpr int kColumns = kOuterColumns<kWidth>;

  struct Stage {
    alignas(16) T rows[16][kColumns + 8];
    alignas(16) T factors[16][kWidth + 8];
  };
  Stage stages[2];
  RowsOut<Part<T>, kColumns> out;
};

// Outer products: a warp takes a large bucket, one side and kColumns of D at a time,
//   outer[d][v] = sum over the others of unit row[d] factors[v],
// whose sums are, rounded, the fragments of B of own factors times outer.
template <class T, int kWidth>
__global__ void __launch_bounds__(kLargeThreads, 2) multiply_large(Products p) {
  extern __shared__ __align__(16) unsigned char shared[];
  using Memory = LargeMemory<T, kWidth>;
  constexpr int kColumns = Memory::kColumns, kPanels = kWidth / kColumns;
  constexpr int kRowTiles = kColumns / 16, kColumnTiles = kWidth / 8;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  Memory& memory = reinterpret_cast<Memory*>(shared)[warp];
  const int64_t items = p.large[0] * 2 * kPanels;
  for (int64_t item = int64_t{blockIdx.x} * kLargeWarps + warp; item < items;
       item += int64_t{gridDim.x} * kLargeWarps) {
    const int column = static_cast<int>(item % kPanels) * kColumns;
    const bool of_keys = item / kPanels % 2;
    const int64_t index = p.large[1 + item / kPanels / 2];
    const int bucket = static_cast<int>(index % p.queries.order.buckets);
    const Segment at(p, index / p.queries.order.buckets);
    const View<T> own(p.own(of_keys), at, kWidth), other(p.own(!of_keys), at, kWidth);

    float sums[kRowTiles][kColumnTiles][4] = {};
    {
      const int last = other.last(bucket);
      const auto stage = [&](int first, int buffer) {
        if (first < last) {
          const int count = min(16, last - first);
          auto& to = memory.stages[buffer];
          stage_rows<T, kColumns>(other.rows, other.order, first, count, column, to.rows);
          stage_rows<T, kWidth>(other.factors, other.order, first, count, 0, to.factors);
        }
        end_copy_group();
      };
      float scales[4] = {};  // of this lane's places along k
      const auto load_scales = [&](int first) {
        if (other.scales == nullptr) return;
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          const int slot = first + lane % 4 * 2 + x / 2 * 8 + x % 2;
          if (slot < last) scales[x] = other.scales[other.order[slot]];
        }
      };
      int buffer = 0, first = other.first(bucket);
      stage(first, buffer);
      load_scales(first);
      for (; first < last; first += 16, buffer ^= 1) {
        stage(first + 16, buffer ^ 1);
        wait_for_copies<1>();
        __syncwarp();
        auto& from = memory.stages[buffer];
        uint32_t a[kRowTiles][4];
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
          load_transposed(
              shared_address(&from.rows[lane / 16 * 8 + lane % 8][16 * i + lane / 8 % 2 * 8]),
              a[i]);
          if (other.scales == nullptr) continue;
          a[i][0] = scaled<T>(a[i][0], scales[0], scales[1]);
          a[i][1] = scaled<T>(a[i][1], scales[0], scales[1]);
          a[i][2] = scaled<T>(a[i][2], scales[2], scales[3]);
          a[i][3] = scaled<T>(a[i][3], scales[2], scales[3]);
        }
        load_scales(first + 16);
#pragma unroll
        for (int j = 0; j < kColumnTiles; j += 2) {
          uint32_t b[4];
          load_transposed(
              shared_address(&from.factors[lane / 8 % 2 * 8 + lane % 8][8 * j + lane / 16 * 8]), b);
#pragma unroll
          for (int i = 0; i < kRowTiles; ++i) {
            mma<T>(sums[i][j], a[i], b[0], b[1]);
            mma<T>(sums[i][j + 1], a[i], b[2], b[3]);
          }
        }
        __syncwarp();
      }
    }
    // Of B [v][d]: pairs of v of one d.
    uint32_t outer[kRowTiles][kColumnTiles][2];
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) {
        outer[i][j][0] = pack<T>(sums[i][j][0], sums[i][j][1]);
        outer[i][j][1] = pack<T>(sums[i][j][2], sums[i][j][3]);
      }
    }

    const int last = own.last(bucket);
    const auto stage = [&](int first, int buffer) {
      if (first < last) {
        stage_rows<T, kWidth>(own.factors, own.order, first, min(16, last - first), 0,
                              memory.stages[buffer].factors);
      }
      end_copy_group();
    };
    int buffer = 0, first = own.first(bucket);
    stage(first, buffer);
    for (; first < last; first += 16, buffer ^= 1) {
      stage(first + 16, buffer ^ 1);
      wait_for_copies<1>();
      __syncwarp();
      float results[kColumns / 8][4] = {};
#pragma unroll
      for (int step = 0; step < kWidth / 16; ++step) {
        uint32_t a[4];
        load_matrices(
            shared_address(&memory.stages[buffer].factors[lane % 16][16 * step + lane / 16 * 8]),
            a);
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            mma<T>(results[2 * i + half], a, outer[i][2 * step][half],
                   outer[i][2 * step + 1][half]);
          }
        }
      }
      write_parts<Part<T>, kColumns>(results, min(16, last - first),
                                     own.parts + int64_t{first} * kWidth + column, kWidth,
                                     memory.out);
    }
    wait_for_copies<0>();
    __syncwarp();
  }
}

}  // namespace yoso::cuda
