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

constexpr int kMmaThreads = 128, kMmaWarps = kMmaThreads / kWarp;
constexpr int kStagedRows = 48;  // of a small bucket, in the memory of a warp
constexpr int kMmaLargeFrom = 48;
constexpr int64_t kMmaBits = 12;  // T at most: warps look at every bucket, the empty ones too

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

// 16 rows of sums, as fragments, to consecutive parts through `memory` of the warp.
template <class P, int kColumns>
__device__ inline void write_parts(const float (&sums)[kColumns / 8][4], int count, P* parts,
                                   int64_t stride, P (*memory)[kColumns + 16 / sizeof(P)]) {
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  __syncwarp();
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Vec<P, 2> pair{narrow<P>(sums[j][2 * half]), narrow<P>(sums[j][2 * half + 1])};
      pair.store(&memory[g + 8 * half][8 * j + 2 * t]);
    }
  }
  __syncwarp();
  constexpr int kChunks = kColumns / kVec<P>, kAtOnce = kWarp / kChunks;
  const int c = lane % kChunks * kVec<P>;
#pragma unroll
  for (int r = lane / kChunks; r < 16; r += kAtOnce) {
    if (r < count) Vec<P, kVec<P>>::load(&memory[r][c]).store(parts + r * stride + c);
  }
  __syncwarp();
}

// The words of this lane of a row of factors, straight from global memory: along V the order of the
// columns does not matter, so each lane of four takes a quarter of the row in one piece. Words 2i
// and 2i + 1 belong to the i-th 16 of k. Zeros where there is no row.
template <class T, int kWidth>
__device__ inline void load_factors(const Matrix<T>& m, const uint32_t* order, int slot, int last,
                                    uint32_t (&words)[kWidth / 8]) {
  if (slot < last) {
    const auto* from = reinterpret_cast<const uint4*>(m.data + order[slot] * m.stride +
                                                      threadIdx.x % 4 * (kWidth / 4));
#pragma unroll
    for (int k = 0; k < kWidth / 8; k += 4) {
      const uint4 v = from[k / 4];
      words[k] = v.x, words[k + 1] = v.y, words[k + 2] = v.z, words[k + 3] = v.w;
    }
  } else {
#pragma unroll
    for (uint32_t& word : words) word = 0;
  }
}

template <class T, int kWidth>
struct SmallMemory {
  alignas(16) T rows[kStagedRows][kWidth + 8];
  alignas(16) Part<T> out[16][kWidth + 16 / sizeof(Part<T>)];
  float scales[kStagedRows];
};

// One side of a bucket that is not large: sum over the others of (own factors . their factors)
// times their unit rows, 16 of its rows after another.
template <class T, int kWidth>
__device__ void multiply_side(const View<T>& own, const View<T>& other, int bucket,
                              SmallMemory<T, kWidth>& memory) {
  const int own_last = own.last(bucket);
  const int other_first = other.first(bucket), other_last = other.last(bucket);
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  int staged = -1;
  for (int tile = own.first(bucket); tile < own_last; tile += 16) {
    uint32_t low[kWidth / 8], high[kWidth / 8];
    load_factors<T, kWidth>(own.factors, own.order, tile + g, own_last, low);
    load_factors<T, kWidth>(own.factors, own.order, tile + g + 8, own_last, high);
    float sums[kWidth / 8][4] = {};
    for (int block = other_first; block < other_last; block += kStagedRows) {
      const int count = min(kStagedRows, other_last - block);
      if (staged != block) {
        __syncwarp();
        stage_rows<T, kWidth>(other.rows, other.order, block, count, 0, memory.rows);
        end_copy_group();
        if (other.scales) {
          for (int r = lane; r < kStagedRows; r += kWarp) {
            memory.scales[r] = r < count ? other.scales[other.order[block + r]] : 0.0f;
          }
        }
      }
      for (int k = 0; k < count; k += 16) {
        float products[2][4] = {};
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          uint32_t b[kWidth / 8];
          load_factors<T, kWidth>(other.factors, other.order, block + k + 8 * half + g, other_last,
                                  b);
#pragma unroll
          for (int i = 0; i < kWidth / 8; i += 2) {
            mma<T>(products[half], {low[i], high[i], low[i + 1], high[i + 1]}, b[i], b[i + 1]);
          }
        }
        if (staged != block) {
          wait_for_copies<0>();
          __syncwarp();
          staged = block;
        }
        if (other.scales) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const auto s = Vec<float, 2>::load(&memory.scales[k + 8 * half + 2 * t]);
#pragma unroll
            for (int x = 0; x < 4; ++x) products[half][x] *= s.at[x % 2];
          }
        }
        const uint32_t weights[4] = {
            pack<T>(products[0][0], products[0][1]), pack<T>(products[0][2], products[0][3]),
            pack<T>(products[1][0], products[1][1]), pack<T>(products[1][2], products[1][3])};
#pragma unroll
        for (int j = 0; j < kWidth / 16; ++j) {
          uint32_t b[4];
          load_transposed(
              shared_address(&memory.rows[k + lane / 8 % 2 * 8 + lane % 8][16 * j + lane / 16 * 8]),
              b);
          mma<T>(sums[2 * j], weights, b[0], b[1]);
          mma<T>(sums[2 * j + 1], weights, b[2], b[3]);
        }
      }
    }
    write_parts<Part<T>, kWidth>(sums, min(16, own_last - tile), own.parts + int64_t{tile} * kWidth,
                                 kWidth, memory.out);
  }
}

// A block a segment, its warps a bucket after another; large ones are left out.
template <class T, int kWidth>
__global__ void __launch_bounds__(kMmaThreads, 3) multiply_small(Products p) {
  extern __shared__ __align__(16) unsigned char shared[];
  const int warp = threadIdx.x / kWarp;
  auto& memory = reinterpret_cast<SmallMemory<T, kWidth>*>(shared)[warp];
  const Segment at(p, blockIdx.x);
  const View<T> queries(p.queries, at, kWidth), keys(p.keys, at, kWidth);
  for (int bucket = warp; bucket < p.queries.order.buckets; bucket += kMmaWarps) {
    const int q = queries.last(bucket) - queries.first(bucket);
    const int k = keys.last(bucket) - keys.first(bucket);
    if (is_large(p, q, k)) continue;
    multiply_side<T, kWidth>(queries, keys, bucket, memory);
    multiply_side<T, kWidth>(keys, queries, bucket, memory);
  }
}

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
  alignas(16) Part<T> out[16][kColumns + 16 / sizeof(Part<T>)];
};

// Outer products: a warp takes a large bucket, one side and kColumns of D at a time,
//   outer[d][v] = sum over the others of unit row[d] factors[v],
// whose sums are, rounded, the fragments of B of own factors times outer.
template <class T, int kWidth>
__global__ void __launch_bounds__(kMmaThreads, 2) multiply_large(Products p) {
  extern __shared__ __align__(16) unsigned char shared[];
  using Memory = LargeMemory<T, kWidth>;
  constexpr int kColumns = Memory::kColumns, kPanels = kWidth / kColumns;
  constexpr int kRowTiles = kColumns / 16, kColumnTiles = kWidth / 8;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  Memory& memory = reinterpret_cast<Memory*>(shared)[warp];
  const int64_t items = p.large[0] * 2 * kPanels;
  for (int64_t item = int64_t{blockIdx.x} * kMmaWarps + warp; item < items;
       item += int64_t{gridDim.x} * kMmaWarps) {
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
      int buffer = 0, first = other.first(bucket);
      stage(first, buffer);
      for (; first < last; first += 16, buffer ^= 1) {
        stage(first + 16, buffer ^ 1);
        wait_for_copies<1>();
        __syncwarp();
        auto& from = memory.stages[buffer];
        if (other.scales) {
          for (int i = lane; i < 16 * kColumns; i += kWarp) {
            T& x = from.rows[i / kColumns][i % kColumns];
            const int slot = first + i / kColumns;
            if (slot < last) x = narrow<T>(widen(x) * other.scales[other.order[slot]]);
          }
          __syncwarp();
        }
        uint32_t a[kRowTiles][4];
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
          load_transposed(
              shared_address(&from.rows[lane / 16 * 8 + lane % 8][16 * i + lane / 8 % 2 * 8]),
              a[i]);
        }
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
