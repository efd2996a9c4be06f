// A block takes a slice of the columns of a head and up to kGroup hashes, and walks through the
// tiles of the sequence, of which the next one is on its way while one is summed. What it has summed
// stays in registers until the sequence ends.
//
// The tensor cores add (identity_sums.h): of the two buckets of a pair four rows each are a step.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "yoso/cuda/elements.h"
#include "yoso/cuda/identity_sums.h"
#include "yoso/cuda/launch.h"
#include "yoso/cuda/mma.h"
#include "yoso/cuda/shared_tile.h"
#include "yoso/cuda/stream.h"
#include "yoso/ops/digit_sort.h"
#include "yoso/ops/tile_tables.h"

namespace yoso::cuda {
namespace {

constexpr int kBuckets = kDigits, kRows = kTableTileRows, kColumns = kTableColumns;

// The rows of every tile by bucket, for each head and hash of the wave.
struct TileOrder {
  Wave wave;
  Tiles tiles;       // of kRows rows, of the wave's sequences
  uint16_t* rows;    // [tiles][heads][hashes][kRows], by slot: the row within its tile
  uint32_t* ranges;  // [tiles][heads][hashes][kBuckets]: first slot, and from bit 16 on the end

  __device__ int64_t index(int64_t item, int64_t head, int64_t hash) const {
    return (item * wave.heads + head) * wave.hashes + hash;
  }
};

__global__ void __launch_bounds__(kSortThreads, 6)
    sort_tiles(TileOrder order, ConstArray codes, Rows side) {
  __shared__ uint32_t starts[kSortWarps][kDigits], warp_sums[kSortWarps];
  __shared__ __align__(16) uint16_t sorted[kRows];
  constexpr int kPerLane = kRows / kSortThreads;
  const auto hashes = static_cast<uint32_t>(order.wave.hashes);
  const auto heads = static_cast<uint32_t>(order.wave.heads);
  const uint32_t hash = blockIdx.x % hashes, head = blockIdx.x / hashes % heads;
  const uint32_t item = blockIdx.x / hashes / heads;
  const auto [all_sequence, tile] = order.tiles[item];
  const Sequence sequence = yoso::sequence(side, all_sequence, codes.cols);
  const uint8_t* code = codes.row<uint8_t>(sequence.batch, order.wave.first_head + head,
                                           order.wave.first_hash + hash) +
                        sequence.begin;
  const int64_t before = tile * kRows;
  const int rows = static_cast<int>(min(int64_t{kRows}, sequence.rows - before));
  code += before;
  const bool* mask = sequence.mask ? sequence.mask + before : nullptr;
  Loaded<kPerLane> loaded;
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) {
    const int row = k * kSortThreads + static_cast<int>(threadIdx.x);
    loaded.rows[k] = row;
    loaded.codes[k] = row < rows && (mask == nullptr || mask[row]) ? code[row] : kNoRow;
  }
  const uint32_t count = count_digits(loaded, 0, starts);
  const uint32_t first = sum_before(count, warp_sums);
  for (int w = 0; w < kSortWarps; ++w) starts[w][threadIdx.x] += first;
  const int64_t index = order.index(item, head, hash);
  order.ranges[index * kBuckets + threadIdx.x] = first | (first + count) << 16;
  __syncthreads();
  uint32_t slots[kPerLane];
  find_slots(loaded, 0, starts[threadIdx.x / kWarp], slots);
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) {
    if (loaded.codes[k] != kNoRow) sorted[slots[k]] = static_cast<uint16_t>(loaded.rows[k]);
  }
  __syncthreads();
  if (threadIdx.x < kRows / 8) {
    Vec<uint16_t, 8>::load(sorted + 8 * threadIdx.x)
        .store(order.rows + index * kRows + 8 * threadIdx.x);
  }
}

constexpr int kThreads = 512, kWarps = kThreads / kWarp;
constexpr int kGroup = 4;                      // hashes of a block, at most
constexpr int kPairs = kBuckets / kWarps / 2;  // pairs of buckets of a warp
constexpr int kChunks = kColumns / 8;
constexpr int kAtOnce = 2;  // pairs: what one waits for, another one fills
constexpr int kUsual = 2;   // steps of a pair: a bucket of a tile has 6 rows when codes are even
constexpr int kFew = 4;     // steps more that are worth taking one by one

struct Sums {
  ConstArray values;
  Rows side;
  TileOrder order;
  int slices, groups, group;  // of columns, of hashes; hashes of a group, at most kGroup
  int items;
  float share;
  BFloat16* tables;
};

// What a block does at a time: a tile of an item, which is a slice, a group of hashes, a head and a
// sequence. One thread finds out where it lies, all use it.
struct Work {
  const BFloat16* values;  // of the slice, from the first row of the tile
  const uint16_t* lists;   // of the first hash
  const uint32_t* ranges;
  BFloat16* table;
  int item, tile, rows, hashes;
  bool is_last;  // tile of its item

  // None where there is no such item.
  __device__ Work(const Sums& s, int of_item, int of_tile) : item(of_item), tile(of_tile), rows(0) {
    if (item >= s.items) return;
    const Wave& wave = s.order.wave;
    const int heads = static_cast<int>(wave.heads);
    const int slice = item % s.slices, hash = item / s.slices % s.groups * s.group;
    const int head = item / s.slices / s.groups % heads;
    const int sequence = item / s.slices / s.groups / heads;
    const Sequence at = yoso::sequence(s.side, wave.first_sequence + sequence, s.values.rows);
    const int64_t first = int64_t{tile} * kRows;
    const Tiles& all = s.order.tiles;
    const int64_t first_tile = all.first
                                   ? all.first[wave.first_sequence + sequence] - all.first_tile
                                   : sequence * all.per_sequence;
    const int64_t index = s.order.index(first_tile + tile, head, hash);
    values = s.values.row<BFloat16>(at.batch, wave.first_head + head, at.begin + first) +
             slice * kColumns;
    lists = s.order.rows + index * kRows;
    ranges = s.order.ranges + index * kBuckets;
    const int64_t of_slice = (int64_t{sequence} * wave.heads + head) * s.slices + slice;
    table = s.tables + (of_slice * wave.hashes + hash) * (kBuckets * kColumns);
    rows = static_cast<int>(min(int64_t{kRows}, at.rows - first));
    hashes = min(s.group, static_cast<int>(wave.hashes) - hash);
    is_last = first + kRows >= at.rows;
  }
  __device__ Work next(const Sums& s) const {
    return is_last ? Work(s, item + static_cast<int>(gridDim.x), 0) : Work(s, item, tile + 1);
  }
};

struct Stage {
  alignas(128) BFloat16 rows[kRows][kColumns];
  alignas(16) uint16_t lists[kGroup][kRows];
  alignas(16) uint32_t ranges[kGroup][kBuckets];
};
struct Memory {
  Stage stages[2];
  alignas(16) BFloat16 zeros[kColumns];
  alignas(16) BFloat16 ones[16][16];                 // store_identities
  alignas(16) unsigned char works[3][sizeof(Work)];  // this one, the next one and that after it

  __device__ Work& work(int i) { return reinterpret_cast<Work&>(works[i]); }
};

__device__ inline void copy_flat(void* to, const void* from, int bytes) {
  for (int i = 16 * static_cast<int>(threadIdx.x); i < bytes; i += 16 * kThreads) {
    copy_async<16>(shared_address(static_cast<char*>(to) + i), static_cast<const char*>(from) + i,
                   true);
  }
}

__device__ inline void copy(const Sums& s, const Work& at, Stage& to) {
  if (at.item < s.items) {
    const int first = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
    constexpr int kStep = kThreads / kChunks;
    const BFloat16* from = at.values + first * s.values.row_stride + 8 * chunk;
    const int64_t step = kStep * s.values.row_stride;
    uint32_t row = shared_address(&to.rows[first][8 * chunk]);
#pragma unroll 4
    for (int r = first; r < at.rows; r += kStep, from += step, row += kStep * kColumns * 2) {
      copy_async<16>(row, from, true);
    }
    copy_flat(to.lists, at.lists, at.hashes * kRows * 2);
    copy_flat(to.ranges, at.ranges, at.hashes * kBuckets * 4);
  }
  end_copy_group();
}

// The entries of 2 * kPairs buckets of one hash again, a lane a column: what is not finite in one
// column spoils eight of them on the tensor cores.
__device__ __noinline__ void sum_alone(const Sums& s, int item, int hash, int first_bucket) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int bucket = first_bucket; bucket < first_bucket + 2 * kPairs; ++bucket) {
    Work at(s, item, 0);
    float sum = 0;
    for (bool last = false; !last;) {
      const uint32_t range = at.ranges[hash * kBuckets + bucket];
      float part = 0;
      for (uint32_t slot = range & 0xffff; slot < range >> 16; ++slot) {
        part += widen(at.values[at.lists[hash * kRows + slot] * s.values.row_stride + lane]);
      }
      sum += part;
      last = at.is_last;
      if (!last) at = at.next(s);
    }
    at.table[(hash * kBuckets + bucket) * kColumns + lane] = narrow<BFloat16>(s.share * sum);
  }
}

// Where a lane is among the rows of a pair of buckets.
struct Walk {
  uint32_t slot, end, longest;  // rows of the longer bucket

  Walk() = default;
  __device__ Walk(const uint32_t* of_pair, int bucket, int of_step) {
    const auto ranges = Vec<uint32_t, 2>::load(of_pair);
    const auto count = [](uint32_t range) { return (range >> 16) - (range & 0xffff); };
    const uint32_t mine = bucket ? ranges.at[1] : ranges.at[0];
    slot = (mine & 0xffff) + of_step;
    end = mine >> 16;
    longest = max(count(ranges.at[0]), count(ranges.at[1]));
  }
  // The address of this lane's row of the next step, of zeros where there is none.
  __device__ uint32_t row(uint32_t rows, const uint16_t* list, uint32_t zeros) {
    const uint32_t address = slot < end ? rows + list[slot] * (kColumns * 2) : zeros;
    slot += 4;
    return address;
  }
};

__device__ inline void add_step(const uint32_t (&ones)[4], const uint32_t (&b)[4],
                                float (&sum)[2]) {
  float products[4] = {};
  mma<BFloat16>(products, ones, b[0], b[1]);
  mma<BFloat16>(products, ones, b[2], b[3]);
  sum[0] += products[0];
  sum[1] += products[1];
}

// What the usual steps leave of a pair: one bucket after the other, its rows in both places of a step.
// The other pairs of the warp have to wait, so a step is on its way while one is added.
__device__ inline float2 sum_long(const Stage& stage, uint32_t rows, uint32_t zeros,
                                  const uint32_t (&ones)[4], int hash, int pair) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const uint16_t* list = stage.lists[hash];
  float mine[2] = {};
#pragma unroll 1
  for (int bucket = 0; bucket < 2; ++bucket) {
    const uint32_t range = stage.ranges[hash][2 * pair + bucket], end = range >> 16;
    const uint32_t first = (range & 0xffff) + 4 * kUsual;
    uint32_t slot = first + lane / 4;
    const auto next_row = [&] {
      const uint32_t row = slot < end ? rows + list[slot] * (kColumns * 2) : zeros;
      slot += 8;
      return row;
    };
    float sum[2] = {};
    uint32_t now[4];
    load_matrices(next_row(), now);
    uint32_t row = next_row();
#pragma unroll 1
    for (uint32_t done = first; done < end; done += 8) {
      uint32_t next[4];
      load_matrices(row, next);
      row = next_row();
      float products[2][4] = {};
      mma<BFloat16>(products[0], ones, now[0], now[1]);
      mma<BFloat16>(products[1], ones, now[2], now[3]);
      for (int i = 0; i < 2; ++i) sum[i] += products[0][i] + products[1][i];
      for (int i = 0; i < 4; ++i) now[i] = next[i];
    }
    for (int i = 0; i < 2; ++i) {
      const float both = sum[i] + __shfl_xor_sync(kFullWarp, sum[i], 2);  // with the other place
      if (lane % 4 / 2 == bucket) mine[i] = both;
    }
  }
  return {mine[0], mine[1]};
}

__global__ void __launch_bounds__(kThreads, 1) sum_tiles(const __grid_constant__ Sums s) {
  extern __shared__ __align__(128) unsigned char shared[];
  auto& memory = *reinterpret_cast<Memory*>(shared);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  // As ldmatrix asks for rows: of the pair and of the step, this lane's.
  const int of_pair = lane / 4 % 2, of_step = lane / 8;
  const uint32_t chunk_bytes = lane % 4 * 16;
  const uint32_t zeros = shared_address(memory.zeros) + chunk_bytes;
  store_identities(memory.ones);
  if (threadIdx.x < kColumns) memory.zeros[threadIdx.x] = {};
  if (threadIdx.x == 0) {
    memory.work(0) = Work(s, static_cast<int>(blockIdx.x), 0);
    memory.work(1) = memory.work(0).next(s);
  }
  __syncthreads();
  uint32_t ones[4];
  load_identities(memory.ones, ones);

  float sums[kGroup][kPairs][2] = {};
  copy(s, memory.work(0), memory.stages[0]);
  for (int buffer = 0, now = 0;; buffer ^= 1) {
    const int next = now == 2 ? 0 : now + 1, after = 3 - now - next;
    wait_for_copies();
    __syncthreads();
    const Work& at = memory.work(now);
    copy(s, memory.work(next), memory.stages[buffer ^ 1]);
    if (threadIdx.x == kThreads - 1 && memory.work(next).item < s.items) {
      memory.work(after) = memory.work(next).next(s);
    }
    const Stage& stage = memory.stages[buffer];
    const uint32_t rows = shared_address(stage.rows) + chunk_bytes;
    const int hashes = at.hashes;
    static_assert(kGroup * kPairs <= 32);
    uint32_t long_pairs = 0;  // of this warp, a bit each: summed after the others
#pragma unroll
    for (int hash = 0; hash < kGroup; ++hash) {
      if (hash >= hashes) break;
      const uint16_t* list = stage.lists[hash];
#pragma unroll
      for (int pair = 0; pair < kPairs; pair += kAtOnce) {
        Walk walks[kAtOnce];
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
          walks[k] = Walk(&stage.ranges[hash][2 * (warp * kPairs + pair + k)], of_pair, of_step);
        }
        // The usual number of steps of all of them side by side, then what is left of each. What a
        // tile adds is summed first: long chains of float additions drift.
        float parts[kAtOnce][2] = {};
        uint32_t b[kAtOnce][kUsual][4];
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
#pragma unroll
          for (auto& step : b[k]) load_matrices(walks[k].row(rows, list, zeros), step);
        }
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
#pragma unroll
          for (const auto& step : b[k]) add_step(ones, step, parts[k]);
        }
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
          if (walks[k].longest > 4 * (kUsual + kFew)) {
            long_pairs |= 1u << (hash * kPairs + pair + k);
            walks[k].longest = 0;
          }
#pragma unroll 1
          for (uint32_t done = 4 * kUsual; done < walks[k].longest; done += 4) {
            uint32_t step[4];
            load_matrices(walks[k].row(rows, list, zeros), step);
            add_step(ones, step, parts[k]);
          }
          sums[hash][pair + k][0] += parts[k][0];
          sums[hash][pair + k][1] += parts[k][1];
        }
      }
    }
    for (; long_pairs; long_pairs &= long_pairs - 1) {
      const int i = __ffs(static_cast<int>(long_pairs)) - 1;
      const float2 rest =
          sum_long(stage, rows, zeros, ones, i / kPairs, warp * kPairs + i % kPairs);
#pragma unroll
      for (int k = 0; k < kGroup * kPairs; ++k) {
        if (k != i) continue;
        sums[k / kPairs][k % kPairs][0] += rest.x;
        sums[k / kPairs][k % kPairs][1] += rest.y;
      }
    }
    now = next;
    if (!at.is_last) continue;

    const int bucket = warp * 2 * kPairs + lane % 4 / 2, column = identity_column(lane);
    BFloat16* entry = at.table + bucket * kColumns + column;
#pragma unroll
    for (int hash = 0; hash < kGroup; ++hash) {
      if (hash >= hashes) break;
      bool finite = true;
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        const auto [low, high] = exchange(sums[hash][pair]);
        *reinterpret_cast<uint32_t*>(entry + (hash * kBuckets + 2 * pair) * kColumns) =
            pack<BFloat16>(s.share * low, s.share * high);
        finite = finite && isfinite(low + high);
        sums[hash][pair][0] = sums[hash][pair][1] = 0;
      }
      // Of this hash alone, so that no bit depends on which hashes the item has.
      if (!__all_sync(kFullWarp, finite)) {
        __syncwarp();
        sum_alone(s, at.item, hash, warp * 2 * kPairs);
      }
    }
    if (memory.work(now).item >= s.items) break;
  }
  wait_for_copies();
}

}  // namespace

bool can_sum_by_tiles() { return max_shared_bytes() >= static_cast<int64_t>(sizeof(Memory)); }

void sum_by_tiles(const char* op, const ConstArray& values, const ConstArray& codes,
                  const GpuSide& side, const Tiles& tiles, const Wave& wave, float share,
                  BFloat16* tables, Stream& stream) {
  TileOrder order{.wave = wave, .tiles = tiles};
  const int64_t lists = tiles.total * wave.heads * wave.hashes;
  order.rows = stream.allocate<uint16_t>(lists * kRows);
  order.ranges = stream.allocate<uint32_t>(lists * kBuckets);
  launch(op, stream.handle(), lists, kSortThreads, 0, sort_tiles, order, codes, side.rows());

  Sums sums{.values = values,
            .side = side.rows(),
            .order = order,
            .slices = static_cast<int>(values.cols / kColumns),
            .share = share,
            .tables = tables};
  const int64_t heads = sums.slices * wave.heads * wave.sequences;
  const int64_t blocks = device_attribute(cudaDevAttrMultiProcessorCount);
  // As many hashes a block as keep the most of the GPU busy; an item costs about one more hash.
  int64_t least = INT64_MAX;
  for (int group = kGroup; group >= 1; --group) {
    const int64_t groups = ceil_div(wave.hashes, int64_t{group});
    const int64_t time = ceil_div(heads * groups, blocks) * (group + 1);
    if (time >= least) continue;
    least = time;
    sums.group = group;
    sums.groups = static_cast<int>(groups);
  }
  const int64_t items = heads * sums.groups;
  if (items > INT32_MAX / 2) fail(op, ": has ", items, " parts, expected at most ", INT32_MAX / 2);
  sums.items = static_cast<int>(items);
  launch(op, stream.handle(), std::min(blocks, items), kThreads, sizeof(Memory), sum_tiles, sums);
}

}  // namespace yoso::cuda
