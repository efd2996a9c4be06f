// The sums over hashes of what buckets gave to rows, on the GPU, and what becomes of them: gradients
// of unit rows, or of the rows themselves.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/cuda/elements.h"
#include "yoso/cuda/launch.h"
#include "yoso/ops/bucket_products.h"
#include "yoso/ops/unit_rows.h"

namespace yoso::cuda {

constexpr int kSumThreads = 256;

// A lane of a team holds kSize neighbours of every lanes * kSize columns of a row, of 256 columns
// at most: a team of fewer than 32 lanes has one such run.
template <int kSize>
constexpr int kRuns = 8 / kSize;

// x_grad = s (g - s x (s x . g)) for the row x of scale s, 0 where it has no direction (unit_rows.h).
// Contracted by hand, as several kernels must round alike. `g`: this lane's columns, which are
// replaced; `x(run, k)`: the row's; `sum`: over the team.
template <int kNumRuns, int kSize, class Row, class Sum>
__device__ inline void to_gradient_of_row(float (&g)[kNumRuns][kSize], float scale, const Row& x,
                                          const Sum& sum) {
  float along = 0;
#pragma unroll
  for (int run = 0; run < kNumRuns; ++run) {
#pragma unroll
    for (int k = 0; k < kSize; ++k) along = fmaf(x(run, k), g[run][k], along);
  }
  along = scale * sum(along);
  const bool has_direction = scale < static_cast<float>(1 / kUnitRowsEpsilon);
#pragma unroll
  for (int run = 0; run < kNumRuns; ++run) {
#pragma unroll
    for (int k = 0; k < kSize; ++k) {
      g[run][k] = has_direction ? scale * fmaf(-along, scale * x(run, k), g[run][k]) : 0.0f;
    }
  }
}

// A team's row itself and its scale, where its gradient needs them: read before parts are, as
// memory takes its time.
template <class T, int kSize>
struct OwnRow {
  Vec<T, kSize> at[kRuns<kSize>] = {};
  float scale = 1;

  template <class Place>
  __device__ OwnRow(const Products& p, const Half& own, const Place& place, int lanes) {
    if (!p.of_rows || !p.last_wave || !place.is_real()) return;
    const int64_t head = own.order.wave.first_head + place.head;
    const int64_t row = place.sequence.begin + place.i;
    const T* x = own.rows.row<T>(place.sequence.batch, head, row);
    scale = own.scale.row<float>(place.sequence.batch, head, 0)[row];
#pragma unroll
    for (int run = 0; run < kRuns<kSize>; ++run) {
      const int c = (run * lanes + static_cast<int>(threadIdx.x) % lanes) * kSize;
      if (c >= p.width) continue;
      if constexpr (kSize == 8) {  // of tensor cores, whose rows lie on boundaries of 16 bytes
        at[run] = Vec<T, kSize>::load(x + c);
      } else {
#pragma unroll
        for (int k = 0; k < kSize; ++k) at[run].at[k] = x[c + k];
      }
    }
  }
};

// Where a team of lanes sums up a row of one side, over the hashes of the wave and the query heads
// of its head.
struct SumPlace {
  Sequence sequence;
  int64_t in_wave, head, i;

  // Row `row` of the item-th tile, counted by head, then by tile.
  __device__ SumPlace(const Half& own, const Tiles& tiles, int64_t item, int row)
      : head(item % own.order.wave.heads) {
    const auto [all_sequence, tile] = tiles[item / own.order.wave.heads];
    sequence = yoso::sequence(own.side, all_sequence, own.grad.rows);
    in_wave = all_sequence - own.order.wave.first_sequence;
    i = tile * tiles.rows_per_tile + row;
  }
  __device__ bool is_real() const { return sequence.is_real(i); }
  // Of a query head's parts and slots, within the segment of hash 0.
  template <class P>
  __device__ const P* parts(const Half& own, int64_t member, int64_t width) const {
    return static_cast<const P*>(own.parts) +
           own.order.base(in_wave, head * own.per_head + member, 0) * width;
  }
  __device__ const uint32_t* slot(const Half& own) const {
    return own.order.slots + own.order.base(in_wave, head, 0) + i;
  }

  // Where the sum over the hashes of earlier waves stands: sums go on from there, so that no bit
  // depends on how many hashes a wave has.
  __device__ float* before(const Products& p, const Half& own) const {
    return own.sums + (head * own.order.wave_rows + own.order.base(in_wave, 0, 0) + i) * p.width;
  }
  template <int kSize>
  __device__ void start(const Products& p, const Half& own, int lanes,
                        float (&sum)[kRuns<kSize>][kSize]) const {
    if (p.first_wave || !is_real()) return;
    const float* from = before(p, own) + static_cast<int>(threadIdx.x) % lanes * kSize;
#pragma unroll
    for (int run = 0; run < kRuns<kSize>; ++run, from += lanes * kSize) {
      if ((run * lanes + static_cast<int>(threadIdx.x) % lanes) * kSize >= p.width) continue;
      const auto sums = Vec<float, kSize>::load(from);
#pragma unroll
      for (int k = 0; k < kSize; ++k) sum[run][k] = sums.at[k];
    }
  }

  // Keeps a team's `sum` for the next wave; of the last one, writes the gradient. `x`: the row.
  template <class T, int kSize>
  __device__ void finish(const Products& p, const Half& own, int lanes, const OwnRow<T, kSize>& x,
                         float (&sum)[kRuns<kSize>][kSize]) const {
    const int lane = static_cast<int>(threadIdx.x) % lanes;
    const auto column = [&](int run) { return (run * lanes + lane) * kSize; };
#pragma unroll
    for (int run = 0; run < kRuns<kSize>; ++run) {
      if (column(run) >= p.width) continue;
      Vec<float, kSize> sums;
#pragma unroll
      for (int k = 0; k < kSize; ++k) {
        sums.at[k] = sum[run][k];
        sum[run][k] *= p.factor;
      }
      if (!p.last_wave) sums.store(before(p, own) + column(run));
    }
    if (!p.last_wave) return;
    if (p.of_rows && is_real()) {
      to_gradient_of_row(
          sum, x.scale, [&](int run, int k) { return widen(x.at[run].at[k]); },
          [&](float part) {
            for (int step = lanes / 2; step >= 1; step /= 2) {
              part += __shfl_xor_sync(team_of(lanes), part, step);
            }
            return part;
          });
    }
    with_element(own.grad.dtype, [&]<class Out>() {
      Out* to =
          own.grad.row<Out>(sequence.batch, own.order.wave.first_head + head, sequence.begin + i);
#pragma unroll
      for (int run = 0; run < kRuns<kSize>; ++run) {
        if (column(run) >= p.width) continue;
        Vec<Out, kSize> result;
#pragma unroll
        for (int k = 0; k < kSize; ++k) result.at[k] = narrow<Out>(sum[run][k]);
        result.store(to + column(run));
      }
    });
  }
};

// What the sums of a wave are made of: tiles of queries [0] and keys [1], and the blocks that they
// take, a tile of a head each.
struct PartSums {
  Tiles tiles[2];
  int64_t blocks[2] = {};
  int lanes = 1;  // of a row's team

  int64_t all_blocks() const { return blocks[0] + blocks[1]; }
};

// Every row of a block's tile from its parts, where the other side is not sparse. kShared: whether
// query heads share heads of keys.
template <class T, class P, int kSize, bool kShared>
__global__ void __launch_bounds__(kSumThreads, kSize == 8 && !kShared ? 3 : 2)
    sum_parts(const __grid_constant__ Products p, const __grid_constant__ PartSums sums) {
  const bool of_keys = blockIdx.x >= sums.blocks[0];
  const Half& own = p.own(of_keys);
  const int hashes = static_cast<int>(own.order.wave.hashes);
  const int lanes = sums.lanes, c = static_cast<int>(threadIdx.x) % lanes * kSize;
  const SumPlace at(own, sums.tiles[of_keys], blockIdx.x - (of_keys ? sums.blocks[0] : 0),
                    threadIdx.x / lanes);
  if (at.i >= at.sequence.rows) return;
  const Segment first{at.in_wave, at.head * own.per_head, 0};
  if (first.visited(p, p.own(!of_keys)) >= 0) return;
  float sum[kRuns<kSize>][kSize] = {};
  at.start(p, own, lanes, sum);
  const OwnRow<T, kSize> row(p, own, at, lanes);
  const int64_t rows = own.order.wave_rows, hash_size = rows * p.width;
  const uint32_t* slot = at.slot(own);
  const P* parts = at.parts<P>(own, 0, p.width) + c;
  const int members = kShared ? static_cast<int>(own.per_head) : 1;
  // The slots of the next hashes are on their way while the parts of these are.
  constexpr int kAtOnce = kSize == 8 ? 8 : 2;
  uint32_t slots[kAtOnce] = {};
  const auto find = [&](int hash) {
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (hash + k < hashes) slots[k] = slot[(hash + k) * rows];
    }
  };
  if (at.is_real()) find(0);
  const int64_t member_size = hashes * hash_size;
  for (int hash = 0; at.is_real() && hash < hashes; hash += kAtOnce) {
    const P* from[kAtOnce];
    Vec<P, kSize> part[kAtOnce][kRuns<kSize>] = {};
    const auto load = [&](int k, int member) {
#pragma unroll
      for (int run = 0; run < kRuns<kSize>; ++run) {
        const int further = run * lanes * kSize;
        if (hash + k < hashes && c + further < p.width) {
          part[k][run] = Vec<P, kSize>::load(from[k] + member * member_size + further);
        }
      }
    };
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      from[k] =
          parts + (hash + k) * hash_size + uint64_t{slots[k]} * static_cast<uint32_t>(p.width);
      load(k, 0);
    }
    // By hash, then by member, whatever the wave.
    if (!kShared) find(hash + kAtOnce);
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      for (int member = 0;;) {
#pragma unroll
        for (int run = 0; run < kRuns<kSize>; ++run) add(sum[run], part[k][run]);
        if (++member == members) break;
        load(k, member);
      }
    }
    if (kShared) find(hash + kAtOnce);
  }
  at.finish(p, own, lanes, row, sum);
}

// Where the other side is sparse: every row visits the rows that it meets, and of crowded buckets
// takes its parts. D = V, and a team has a lane for every kSize columns.
template <class T, class P, int kSize, bool kOfKeys>
__global__ void __launch_bounds__(kSumThreads, 4) sum_visits(Products p, Tiles tiles, int lanes) {
  extern __shared__ uint32_t lists[];  // [teams][Met::kCapacity]
  const Half &own = p.own(kOfKeys), &other = p.own(!kOfKeys);
  const SumPlace place(own, tiles, blockIdx.x, threadIdx.x / lanes);
  if (place.i >= place.sequence.rows) return;
  Segment at{place.in_wave, place.head * own.per_head, 0};
  if (at.visited(p, other) < 0) return;
  const int lane = static_cast<int>(threadIdx.x) % lanes, c = lane * kSize;
  const unsigned team = team_of(lanes);
  const bool in_width = c < p.width;
  const int members = place.is_real() ? static_cast<int>(own.per_head) : 0;
  const int hashes = static_cast<int>(own.order.wave.hashes);
  uint32_t* list = lists + threadIdx.x / lanes * Met::kCapacity;
  float sum[kRuns<kSize>][kSize] = {};  // of the first run: there is no other
  place.start(p, own, lanes, sum);
  // By hash, then by member, and waves begin at multiples of Met::kHashes: no bit depends on them.
  const int groups = (hashes + Met::kHashes - 1) / Met::kHashes;
  for (int group = 0; group < groups * members; ++group) {
    const int hash = group / members * Met::kHashes, member = group % members;
    at.head = place.head * own.per_head + member;
    const T* mine_at = Matrix<T>(own.factors, own, at).data + place.i * own.factors.row_stride + c;
    const T* factors = Matrix<T>(other.factors, other, at).data + c;
    const T* rows = Matrix<T>(other.rows, other, at).data + c;
    const Scales scales(other, at);
    const RowCodes codes(own.codes, place.sequence.batch, own.order.wave.first_head + place.head,
                         own.order.wave.first_hash, place.sequence.begin + place.i);
    Vec<T, kSize> mine{};
    if (in_width) mine = Vec<T, kSize>::load(mine_at);
    const Met met =
        list_met(other.order, at.sequence, at.head / other.per_head, codes, hash, lanes, list);
    constexpr int kAtOnce = 2;
#pragma unroll 1
    for (int first = 0; first < met.rows; first += kAtOnce) {
      Vec<T, kSize> theirs[kAtOnce], row[kAtOnce];
      float weight[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const uint32_t j = met.row(min(first + k, met.rows - 1));
        theirs[k] = row[k] = {};
        weight[k] = scales.at(j);
        if (in_width) {
          theirs[k] = Vec<T, kSize>::load(factors + j * other.factors.row_stride);
          row[k] = Vec<T, kSize>::load(rows + j * other.rows.row_stride);
        }
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        float product = 0;
#pragma unroll
        for (int x = 0; x < kSize; ++x) product += widen(mine.at[x]) * widen(theirs[k].at[x]);
        for (int step = lanes / 2; step >= 1; step /= 2) {
          product += __shfl_xor_sync(team, product, step);
        }
        weight[k] *= product;
        if (first + k >= met.rows) break;
#pragma unroll
        for (int x = 0; x < kSize; ++x) sum[0][x] += weight[k] * widen(row[k].at[x]);
      }
    }
    if (!in_width) continue;
    const uint32_t* slot = place.slot(own);
    const P* parts = place.parts<P>(own, member, p.width) + c;
#pragma unroll 2
    for (int k = 0; k < met.crowded; ++k) {
      const int64_t offset = met.hash(k) * own.order.wave_rows;
      add(sum[0], Vec<P, kSize>::load(parts + (offset + slot[offset]) * p.width));
    }
  }
  place.finish(p, own, lanes, OwnRow<T, kSize>(p, own, place, lanes), sum);
}

}  // namespace yoso::cuda
