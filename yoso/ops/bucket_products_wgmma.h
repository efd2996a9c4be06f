// multiply_large for Hopper, rows of 64 bfloat16: one warp fetches rows, bucket after bucket, four
// others multiply what has arrived.
//
// They hold an outer product, outer[d][v], as 16 rows of D each: the sums of one product are,
// rounded, the factors of the next one,
//   part[d][row] = sum_v outer[d][v] factors[row][v],
// whose other factors the tensor cores read from shared memory.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/cuda/bulk_copy.h"
#include "yoso/cuda/wgmma.h"
#include "yoso/ops/bucket_products_mma.h"

namespace yoso::cuda {

// Steps of kRows rows of one side of a bucket pass through a ring of slots.
struct LargeRing {
  using T = BFloat16;
  static constexpr int kWidth = 64, kRows = 48, kSlots = 6;
  static constexpr int kMultiplying = 4 * kWarp, kThreads = kMultiplying + kWarp;
  static constexpr int kBlocks = 3;  // of a multiprocessor
  using Tile = SharedTile<kWidth>;

  // What is done with a step, in this order.
  enum Flags : uint32_t {
    kClear = 1,     // there are no sums yet
    kTurn = 2,      // the sums are whole: factors are multiplied by them, and others begin
    kAdd = 4,       // its rows and factors to the sums
    kMultiply = 8,  // its factors by the whole sums, to its parts
    kKeep = 16,     // the slot stays as it is until kEndKept
    kEndKept = 32,  // the sums are whole: the factors kept are multiplied by them
    kScaled = 64,   // its rows have scales
    kEnd = 128,     // the last one of all
  };
  struct alignas(16) Step {
    T* parts;  // of its first row
    int32_t count;
    uint32_t flags;
  };

  // The rows make place for their parts.
  alignas(1024) T factors[kSlots][kRows][kWidth];
  alignas(1024) T rows[kSlots][kRows][kWidth];
  alignas(16) float scales[kSlots][kRows];
  Step steps[kSlots];
  // compute-sanitizer's racecheck does not follow barriers like these, and reports steps as races.
  CopyBarrier arrived[kSlots], left[kSlots];

  __device__ void make() {
    for (int i = 0; i < kSlots; ++i) {
      arrived[i].make(kWarp + 1);  // what a lane copies, and the step itself
      left[i].make(kMultiplying / kWarp);
    }
    publish_barriers();
  }
};

// The buckets of a block: every p.large.blocks-th of a segment's, or one side of them where there
// are blocks for it.
struct LargeItems {
  uint32_t all, step, first;
  bool split;

  __device__ LargeItems(const Products& p, const Segment& at)
      : all(p.large.counts[at.number(p)]),
        step(p.large.blocks),
        first(blockIdx.x % step),
        split(2 * all <= step) {
    if (split) all *= 2;
  }
};

// The warp that fetches.
class LargeSource {
 public:
  __device__ LargeSource(const Products& p, const Segment& at, LargeRing& ring)
      : ring_(ring), queries_(p.queries, at, kWidth), keys_(p.keys, at, kWidth) {}

  __device__ void fetch_all(const LargeItems& items, const uint32_t* buckets) {
    for (uint32_t first = items.first; first < items.all; first += kWarp * items.step) {
      // An item a lane.
      const uint32_t item = first + lane() * items.step;
      int begin[2] = {}, count[2] = {};
      if (item < items.all) {
        const int bucket = static_cast<int>(buckets[items.split ? item / 2 : item]);
        begin[0] = queries_.first(bucket);
        begin[1] = keys_.first(bucket);
        count[0] = queries_.last(bucket) - begin[0];
        count[1] = keys_.last(bucket) - begin[1];
      }
      const uint32_t end = min(items.all, first + kWarp * items.step);
      int from = 0;
      for (uint32_t i = first; i < end; i += items.step, ++from) {
        const bool keys_first = !items.split || i % 2 == 0;
        const auto side = [&](bool of_keys) -> Side {
          return {of_keys, __shfl_sync(kFullWarp, of_keys ? begin[1] : begin[0], from),
                  __shfl_sync(kFullWarp, of_keys ? count[1] : count[0], from)};
        };
        fetch_bucket(side(keys_first), side(!keys_first), items.split, i + items.step >= items.all);
      }
    }
    push();
  }

 private:
  using T = LargeRing::T;
  static constexpr int kWidth = LargeRing::kWidth, kRows = LargeRing::kRows;
  struct Side {  // of a bucket
    bool of_keys = false;
    int first = 0, count = 0;

    __device__ int steps() const { return (count + kRows - 1) / kRows; }
  };
  static constexpr int kChunks = kWidth / 8;  // of 16 bytes, of a row

  static __device__ int lane() { return static_cast<int>(threadIdx.x) % kWarp; }

  // The first side's outer product is what the second one is multiplied by; unless `split`, the
  // second one's then serves the factors of the first one, which are fetched again or were kept.
  __device__ void fetch_bucket(Side one, Side other, bool split, bool is_last) {
    using R = LargeRing;
    const bool alone = other.count == 0 && !split;  // its parts are zero
    const bool keep = !split && !alone && one.steps() + other.steps() <= R::kSlots;
    const bool again = !split && !keep && one.count > 0;
    const int end = again ? 2 : other.count > 0 ? 1 : 0;  // the last of the turns that have steps
    for (int turn = alone ? 2 : 0; turn <= end; ++turn) {
      const int first_slot = turn == 1 ? other.first : one.first;
      const int count = turn == 1 ? other.count : one.count;
      const View<T> view = (turn == 1 ? other.of_keys : one.of_keys) ? keys_ : queries_;
      uint32_t first = turn > 0 ? R::kTurn : 0, each = turn > 0 ? R::kMultiply : 0, last = 0;
      if (turn == 0 || alone || (turn == 1 && one.count == 0)) first |= R::kClear;
      if (turn == 0 || (turn == 1 && !split)) each |= R::kAdd | (view.scales ? R::kScaled : 0);
      if (turn == 0 && keep) each |= R::kKeep;
      if (turn == 1 && keep) last |= R::kEndKept;
      if (turn == end && is_last) last |= R::kEnd;
      for (int at = 0; at < count; at += kRows) {
        fetch(view, first_slot + at, min(count - at, kRows),
              each | (at == 0 ? first : 0) | (at + kRows >= count ? last : 0));
      }
    }
  }

  // Finds the rows of a step; those of the step before are there by now and are sent on their way.
  __device__ void fetch(const View<T>& view, int first_slot, int count, uint32_t flags) {
    const uint32_t* order = view.order + first_slot;
    uint32_t rows[2];  // of the lane, and of the one 32 further
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      rows[k] = lane() + k * kWarp < count ? order[lane() + k * kWarp] : 0;
    }
    push();
    const int chunk = lane() % kChunks * 16;
    next_ = {.step = {view.parts + int64_t{first_slot} * kWidth, count, flags},
             .factors = view.factors + chunk,
             .rows = view.rows + chunk,
             .factor_stride = view.factor_stride,
             .row_stride = view.row_stride,
             .scales = view.scales,
             .found = {rows[0], rows[1]}};
  }

  __device__ void push() {
    if (next_.step.flags == 0) return;
    using Tile = LargeRing::Tile;
    const uint32_t slot = slot_;
    if (!first_round_) ring_.left[slot].wait(left_phase_);
    if (++slot_ == LargeRing::kSlots) {
      slot_ = 0;
      if (!first_round_) left_phase_ ^= 1;
      first_round_ = false;
    }
    const uint32_t to = Tile::offset(lane() / kChunks, lane() % kChunks);
    const uint32_t factors = shared_address(ring_.factors[slot]) + to,
                   rows = shared_address(ring_.rows[slot]) + to;
    const bool adds = (next_.step.flags & LargeRing::kAdd) != 0;
    constexpr int kAtOnce = kWarp / kChunks;
#pragma unroll
    for (int r = 0; r < kRows; r += kAtOnce) {
      if (r % 16 == 0 && r >= next_.step.count) break;  // zeros up to whole 16 rows
      const int place = r + lane() / kChunks;
      const uint32_t row = __shfl_sync(kFullWarp, next_.found[r / kWarp], place % kWarp);
      const bool there = place < next_.step.count;
      copy_async<16>(Tile::Order::further(factors, r),
                     next_.factors + uint64_t{row} * next_.factor_stride, there);
      if (adds) {
        copy_async<16>(Tile::Order::further(rows, r), next_.rows + uint64_t{row} * next_.row_stride,
                       there);
      }
    }
    if (next_.step.flags & LargeRing::kScaled) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const int i = lane() + k * kWarp;
        if (i < kRows) {
          copy_async<4>(shared_address(ring_.scales[slot]) + 4 * i, next_.scales + next_.found[k],
                        i < next_.step.count);
        }
      }
    }
    ring_.arrived[slot].arrive_when_copied();
    if (lane() == 0) {
      ring_.steps[slot] = next_.step;
      ring_.arrived[slot].arrive();
    }
  }

  LargeRing& ring_;
  View<T> queries_, keys_;
  // A step whose rows are found, but not sent for.
  struct Next {
    LargeRing::Step step;
    const char *factors, *rows;  // the lane's chunk of row 0 of the sequence
    uint32_t factor_stride, row_stride;
    const float* scales;
    uint32_t found[2];  // rows of the lane, and of the one 32 further
  };
  Next next_ = {};
  uint32_t slot_ = 0, left_phase_ = 0;
  bool first_round_ = true;  // slots are still as they were made
};

// The four warps that multiply.
class LargeProducts {
 public:
  __device__ explicit LargeProducts(LargeRing& ring) : ring_(ring) {}

  __device__ void multiply_all() {
    using R = LargeRing;
    uint32_t slot = 0, phase = 0, kept = 0, first_kept = 0;
    while (true) {
      ring_.arrived[slot].wait(phase);
      publish_shared();
      R::Step step = ring_.steps[slot];
      step.flags = __shfl_sync(kFullWarp, step.flags, 0);
      step.count = __shfl_sync(kFullWarp, step.count, 0);
      if (step.flags & R::kClear) has_sums_ = false;
      if (step.flags & R::kTurn) turn();
      const bool adds = step.flags & R::kAdd, multiplies = step.flags & R::kMultiply;
      if (adds && multiplies) {
        work<true, true>(slot, step);
      } else if (adds) {
        work<true, false>(slot, step);
      } else {
        work<false, true>(slot, step);
      }
      if (step.flags & R::kKeep) {
        if (kept++ == 0) first_kept = slot;
      } else {
        leave(slot);
      }
      if (step.flags & R::kEndKept) {
        turn();
        for (; kept > 0; --kept) {
          work<false, true>(first_kept, ring_.steps[first_kept]);
          leave(first_kept);
          if (++first_kept == R::kSlots) first_kept = 0;
        }
      }
      if (step.flags & R::kEnd) return;
      if (++slot == R::kSlots) {
        slot = 0;
        phase ^= 1;
      }
    }
  }

 private:
  using T = LargeRing::T;
  using Tile = LargeRing::Tile;
  static constexpr int kWidth = LargeRing::kWidth, kRows = LargeRing::kRows;
  static constexpr int kSteps = kWidth / 16;

  static __device__ int warp() { return static_cast<int>(threadIdx.x) / kWarp; }
  static __device__ int lane() { return static_cast<int>(threadIdx.x) % kWarp; }

  __device__ void turn() {
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      pack_factors<T>(sums_, k, whole_[k]);
#pragma unroll
      for (uint32_t& pair : whole_[k]) pair = has_sums_ ? pair : 0;
    }
    has_sums_ = false;
  }

  template <bool kAdd, bool kMultiply>
  __device__ __forceinline__ void work(uint32_t slot, const LargeRing::Step& step) {
    const Tile rows{shared_address(ring_.rows[slot])}, factors{shared_address(ring_.factors[slot])};
    uint32_t a[kRows / 16][4];
    float parts[kRows / 8][4];
    if constexpr (kAdd) {
#pragma unroll
      for (int k = 0; k < kRows / 16; ++k) {
        if (16 * k >= step.count) break;
        rows.load_turned(Tile::columns_lane(), 16 * k, warp(), a[k]);
        if (step.flags & LargeRing::kScaled) {
          RowScales(ring_.scales[slot] + 16 * k + lane() % 4 * 2).apply<T>(a[k]);
        }
      }
    }
    publish_registers();
    if constexpr (kAdd) {
#pragma unroll
      for (int k = 0; k < kRows / 16; ++k) {
        if (16 * k >= step.count) break;
        start_sum_if<T, true>(k > 0 || has_sums_, sums_, a[k],
                              describe(factors, 16 * k * Tile::kRowBytes));
      }
      has_sums_ = true;
    }
    if constexpr (kMultiply) {
      start_product<T, false>(parts, whole_[0], describe(factors, 0));
#pragma unroll
      for (int k = 1; k < kSteps; ++k) {
        start_sum<T, false>(parts, whole_[k], describe(factors, 32 * k));
      }
    }
    end_product_group();
    if constexpr (kAdd) wait_for_products(sums_);
    if constexpr (kMultiply) {
      wait_for_products(parts);
      write(rows, step, parts);
    }
  }

  __device__ static void write(const Tile& rows, const LargeRing::Step& step,
                               const float (&parts)[kRows / 8][4]) {
    // By way of the rows' place, where a warp has read the columns that it writes, and no other.
#pragma unroll
    for (int n = 0; n < kRows / 8; n += 2) {
      uint32_t packed[4];
      pack_factors<T>(parts, n / 2, packed);
      const int row = 8 * n + lane() / 16 * 8 + lane() % 8, chunk = 2 * warp() + lane() / 8 % 2;
      store_transposed(rows.base + Tile::offset(row, chunk), packed);
    }
    wait_for_all(1, LargeRing::kMultiplying);
    constexpr int kChunks = kWidth / 8, kAtOnce = LargeRing::kMultiplying / kChunks;
    const int thread = static_cast<int>(threadIdx.x), row = thread / kChunks;
    T* to = step.parts + 8 * thread;
    const uint32_t from = rows.base + Tile::offset(row, thread % kChunks);
#pragma unroll
    for (int i = 0; i < kRows; i += kAtOnce) {
      if (i + row < step.count) {
        store_whole(to + i * kWidth, load_words(from + i * Tile::kRowBytes));
      }
    }
  }

  __device__ void leave(uint32_t slot) {
    __syncwarp();
    if (lane() == 0) ring_.left[slot].arrive();
  }

  LargeRing& ring_;
  bool has_sums_ = false;
  float sums_[kWidth / 8][4] = {};  // outer[16 warp + g, + 8][8 n + 2 t..]
  uint32_t whole_[kSteps][4] = {};  // of earlier rows, rounded
};

// A block takes some large buckets of a segment.
template <class T>
__global__ void __launch_bounds__(LargeRing::kThreads, LargeRing::kBlocks)
    multiply_large_by_wgmma(const __grid_constant__ Products p) {
  if constexpr (kCompilesWgmma) {
    extern __shared__ __align__(1024) unsigned char of_ring[];
    auto& ring = *reinterpret_cast<LargeRing*>(of_ring);
    const Segment at(p, blockIdx.x / p.large.blocks);
    const LargeItems items(p, at);
    if (items.first >= items.all) return;
    if (threadIdx.x == 0) ring.make();
    __syncthreads();
    // The shuffle tells the compiler that no warp does both.
    const unsigned warp = __shfl_sync(kFullWarp, threadIdx.x / kWarp, 0);
    if (warp < LargeRing::kMultiplying / kWarp) {
      LargeProducts(ring).multiply_all();
    } else {
      LargeSource(p, at, ring).fetch_all(items, at.large(p));
    }
  }
}

}  // namespace yoso::cuda
