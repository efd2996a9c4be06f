// Products of buckets on tensor cores, for queries, keys and values of 16 bits and one width.
//
// Rows of factors (G and v) enter as fragments straight from global memory: along V the order of
// the columns does not matter, so each lane of four takes a quarter of a row in one piece. Rows
// that are summed (q and k) go through shared memory, where ldmatrix turns them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/cuda/mma.h"
#include "yoso/ops/bucket_products.h"

namespace yoso::cuda {

// What the rows of a bucket are rounded to between the products and the sum over hashes.
template <class T>
using Part = std::conditional_t<std::is_same_v<T, BFloat16>, BFloat16, float>;

constexpr int kMmaThreads = 128, kMmaWarps = kMmaThreads / kWarp;
constexpr int kStagedRows = 48;  // of a small bucket, in the memory of a warp
constexpr int kMmaLargeFrom = 48;

// The words of this lane of a row of factors; words 2i and 2i + 1 belong to the i-th 16 of k.
template <class T, int kWidth>
__device__ inline void load_factors(const Matrix<T>& m, const uint32_t* rows, int slot, int last,
                                    uint32_t (&words)[kWidth / 8]) {
  const uint4* from = nullptr;
  if (slot < last) {
    from = reinterpret_cast<const uint4*>(m.data + rows[slot] * m.stride +
                                          threadIdx.x % 4 * (kWidth / 4));
  }
#pragma unroll
  for (int k = 0; k < kWidth / 8; k += 4) {
    const uint4 v = from ? from[k / 4] : uint4{0, 0, 0, 0};
    words[k] = v.x, words[k + 1] = v.y, words[k + 2] = v.z, words[k + 3] = v.w;
  }
}

// sum += A B^T over kWidth columns, for 16 rows of A (as two times eight) and 8 of B.
template <class T, int kWidth>
__device__ inline void multiply_factors(float (&sum)[4], const uint32_t (&low)[kWidth / 8],
                                        const uint32_t (&high)[kWidth / 8],
                                        const uint32_t (&b)[kWidth / 8]) {
#pragma unroll
  for (int i = 0; i < kWidth / 8; i += 2) {
    mma<T>(sum, {low[i], high[i], low[i + 1], high[i + 1]}, b[i], b[i + 1]);
  }
}

// Rows first .. first + count - 1 of `order`, columns `column` .. + kColumns - 1, on their way into
// shared memory; zeros up to a multiple of 16 rows.
template <class T, int kColumns, int kStride>
__device__ inline void stage_rows(const Matrix<T>& m, const uint32_t* order, int first, int count,
                                  int column, T (*to)[kStride]) {
  constexpr int kChunks = kColumns / 8;
  for (int i = threadIdx.x % kWarp; i < (count + 15) / 16 * 16 * kChunks; i += kWarp) {
    const int r = i / kChunks, c = i % kChunks * 8;
    if (r < count) {
      copy_async(&to[r][c], m.data + order[first + r] * m.stride + column + c);
    } else {
      *reinterpret_cast<uint4*>(&to[r][c]) = uint4{0, 0, 0, 0};
    }
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
  constexpr int kChunks = kColumns / kVec<P>;
  for (int i = lane; i < count * kChunks; i += kWarp) {
    const int r = i / kChunks, c = i % kChunks * kVec<P>;
    Vec<P, kVec<P>>::load(&memory[r][c]).store(parts + r * stride + c);
  }
  __syncwarp();
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
__device__ void multiply_side(const Products& p, const Segment& at, int bucket, bool of_keys,
                              SmallMemory<T, kWidth>& memory) {
  const Half &own = p.own(of_keys), &other = p.own(!of_keys);
  const int own_last = static_cast<int>(at.begin(own)[bucket + 1]);
  const int other_first = static_cast<int>(at.begin(other)[bucket]),
            other_last = static_cast<int>(at.begin(other)[bucket + 1]);
  const uint32_t *mine = at.rows(own), *others = at.rows(other);
  const Matrix<T> own_factors(own.factors, own, at), factors(other.factors, other, at),
      rows(other.rows, other, at);
  const Scales scales(other, at);
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  int staged = -1;
  for (int tile = static_cast<int>(at.begin(own)[bucket]); tile < own_last; tile += 16) {
    uint32_t low[kWidth / 8], high[kWidth / 8];
    load_factors<T, kWidth>(own_factors, mine, tile + g, own_last, low);
    load_factors<T, kWidth>(own_factors, mine, tile + g + 8, own_last, high);
    float sums[kWidth / 8][4] = {};
    for (int block = other_first; block < other_last; block += kStagedRows) {
      const int count = min(kStagedRows, other_last - block);
      if (staged != block) {
        __syncwarp();
        stage_rows<T, kWidth>(rows, others, block, count, 0, memory.rows);
        end_copy_group();
        for (int r = lane; r < kStagedRows; r += kWarp) {
          memory.scales[r] = r < count ? scales.at(others[block + r]) : 0.0f;
        }
        wait_for_copies<0>();
        __syncwarp();
        staged = block;
      }
      for (int k = 0; k < count; k += 16) {
        float products[2][4] = {};
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          uint32_t b[kWidth / 8];
          load_factors<T, kWidth>(factors, others, block + k + 8 * half + g, other_last, b);
          multiply_factors<T, kWidth>(products[half], low, high, b);
        }
        uint32_t weights[4];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float s0 = memory.scales[k + 8 * half + 2 * t],
                      s1 = memory.scales[k + 8 * half + 2 * t + 1];
          const float(&x)[4] = products[half];
          weights[2 * half] = pack<T>(s0 * x[0], s1 * x[1]);
          weights[2 * half + 1] = pack<T>(s0 * x[2], s1 * x[3]);
        }
#pragma unroll
        for (int j = 0; j < kWidth / 16; ++j) {
          uint32_t b[4];
          load_transposed(b, &memory.rows[k + lane / 8 % 2 * 8 + lane % 8][16 * j + lane / 16 * 8]);
          mma<T>(sums[2 * j], weights, b[0], b[1]);
          mma<T>(sums[2 * j + 1], weights, b[2], b[3]);
        }
      }
    }
    write_parts<Part<T>, kWidth>(sums, min(16, own_last - tile),
                                 at.parts<Part<T>>(own, kWidth) + int64_t{tile} * kWidth, kWidth,
                                 memory.out);
  }
}

// A warp a bucket; large ones are left out.
template <class T, int kWidth>
__global__ void __launch_bounds__(kMmaThreads, 3) multiply_small(Products p) {
  extern __shared__ __align__(16) unsigned char shared[];
  auto& memory = reinterpret_cast<SmallMemory<T, kWidth>*>(shared)[threadIdx.x / kWarp];
  const BucketOrder& order = p.queries.order;
  const int64_t item = int64_t{blockIdx.x} * kMmaWarps + threadIdx.x / kWarp;
  const int bucket = static_cast<int>(item % order.buckets);
  const int64_t segment = item / order.buckets;
  const Segment at{segment / order.wave.hashes / p.query_heads,
                   segment / order.wave.hashes % p.query_heads, segment % order.wave.hashes};
  if (segment >= order.wave.segments()) return;
  const uint32_t *q = at.begin(p.queries), *k = at.begin(p.keys);
  if (is_large(p, q[bucket + 1] - q[bucket], k[bucket + 1] - k[bucket])) return;
  multiply_side<T, kWidth>(p, at, bucket, false, memory);
  multiply_side<T, kWidth>(p, at, bucket, true, memory);
}

// Columns of D that a block's outer product covers: 128 registers of a lane hold it.
template <int kWidth>
constexpr int kOuterColumns = kWidth <= 64 ? kWidth : 4096 / kWidth;

template <class T, int kWidth>
struct LargeMemory {
  static constexpr int kColumns = kOuterColumns<kWidth>;

  struct Stage {
    alignas(16) T rows[16][kColumns + 8];
    alignas(16) T factors[16][kWidth + 8];
  };
  union {
    Stage stages[kMmaWarps][2];
    float sums[kColumns * kWidth];  // a word of every lane after another
    alignas(16) Part<T> out[kMmaWarps][16][kColumns + 16 / sizeof(Part<T>)];
  };
  alignas(16) uint2 outer[kColumns / 8][kWidth / 16][kWarp];  // fragments of B
};

// Outer products: a block takes a large bucket, one side and kColumns of D at a time,
//   outer[v][d] = sum over the others of factors[v] unit row[d],
// and then multiplies its own factors with that.
template <class T, int kWidth>
__global__ void __launch_bounds__(kMmaThreads, 2) multiply_large(Products p) {
  extern __shared__ __align__(16) unsigned char shared[];
  using Memory = LargeMemory<T, kWidth>;
  Memory& memory = *reinterpret_cast<Memory*>(shared);
  constexpr int kColumns = Memory::kColumns, kPanels = kWidth / kColumns, kSteps = kWidth / 16;
  constexpr int kRowTiles = kColumns / 16, kColumnTiles = kWidth / 8;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, g = lane / 4, t = lane % 4;
  const int64_t items = p.large[0] * 2 * kPanels;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int column = static_cast<int>(item % kPanels) * kColumns;
    const bool of_keys = item / kPanels % 2;
    const Half &own = p.own(of_keys), &other = p.own(!of_keys);
    const BucketOrder& order = own.order;
    const int64_t index = p.large[1 + item / kPanels / 2];
    const int bucket = static_cast<int>(index % order.buckets);
    const int64_t segment = index / order.buckets;
    const Segment at{segment / order.wave.hashes / p.query_heads,
                     segment / order.wave.hashes % p.query_heads, segment % order.wave.hashes};
    const Matrix<T> factors(other.factors, other, at), rows(other.rows, other, at),
        own_factors(own.factors, own, at);
    const Scales scales(other, at);
    const uint32_t *mine = at.rows(own), *others = at.rows(other);
    const int other_last = static_cast<int>(at.begin(other)[bucket + 1]);

    float sums[kRowTiles][kColumnTiles][4] = {};  // [d][v]
    {
      constexpr int kStep = 16 * kMmaWarps;
      const auto stage = [&](int first, int buffer) {
        const int count = min(16, other_last - first);
        if (count > 0) {
          auto& to = memory.stages[warp][buffer];
          stage_rows<T, kColumns>(rows, others, first, count, column, to.rows);
          stage_rows<T, kWidth>(factors, others, first, count, 0, to.factors);
        }
        end_copy_group();
      };
      int buffer = 0;
      int first = static_cast<int>(at.begin(other)[bucket]) + 16 * warp;
      stage(first, buffer);
      for (; first < other_last; first += kStep, buffer ^= 1) {
        stage(first + kStep, buffer ^ 1);
        wait_for_copies<1>();
        __syncwarp();
        auto& from = memory.stages[warp][buffer];
        if (scales.data) {
          for (int i = lane; i < 16 * kColumns; i += kWarp) {
            T& x = from.rows[i / kColumns][i % kColumns];
            const int slot = first + i / kColumns;
            if (slot < other_last) x = narrow<T>(widen(x) * scales.at(others[slot]));
          }
          __syncwarp();
        }
        uint32_t a[kRowTiles][4];
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
          load_transposed(a[i], &from.rows[lane / 16 * 8 + lane % 8][16 * i + lane / 8 % 2 * 8]);
        }
#pragma unroll
        for (int j = 0; j < kColumnTiles; j += 2) {
          uint32_t b[4];
          load_transposed(b, &from.factors[lane / 8 % 2 * 8 + lane % 8][8 * j + lane / 16 * 8]);
#pragma unroll
          for (int i = 0; i < kRowTiles; ++i) {
            mma<T>(sums[i][j], a[i], b[0], b[1]);
            mma<T>(sums[i][j + 1], a[i], b[2], b[3]);
          }
        }
        __syncwarp();
      }
      wait_for_copies<0>();
    }
    // The sum over the warps, in their order; the last one has all of it.
    for (int w = 0; w < kMmaWarps; ++w) {
      __syncthreads();
      if (warp != w) continue;
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
        for (int j = 0; j < kColumnTiles; ++j) {
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            float& sum = memory.sums[((i * kColumnTiles + j) * 4 + k) * kWarp + lane];
            if (w > 0) sums[i][j][k] += sum;
            if (w < kMmaWarps - 1) sum = sums[i][j][k];
          }
        }
      }
    }
    if (warp == kMmaWarps - 1) {
      // As fragments of B whose k is v, in the order of load_factors.
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
        for (int j = 0; j < kColumnTiles; ++j) {
          const int v = 8 * j + 2 * t, quarter = v / (kWidth / 4), in_quarter = v % (kWidth / 4);
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            uint2& words = memory.outer[2 * i + half][in_quarter / 4][4 * g + quarter];
            (in_quarter % 4 == 0 ? words.x : words.y) =
                pack<T>(sums[i][j][2 * half], sums[i][j][2 * half + 1]);
          }
        }
      }
    }
    __syncthreads();

    const int own_last = static_cast<int>(at.begin(own)[bucket + 1]);
    for (int tile = static_cast<int>(at.begin(own)[bucket]) + 16 * warp; tile < own_last;
         tile += 16 * kMmaWarps) {
      uint32_t low[kWidth / 8], high[kWidth / 8];
      load_factors<T, kWidth>(own_factors, mine, tile + g, own_last, low);
      load_factors<T, kWidth>(own_factors, mine, tile + g + 8, own_last, high);
      float results[kColumns / 8][4] = {};
#pragma unroll
      for (int j = 0; j < kColumns / 8; ++j) {
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
          const uint2 b = memory.outer[j][i][lane];
          mma<T>(results[j], {low[2 * i], high[2 * i], low[2 * i + 1], high[2 * i + 1]}, b.x, b.y);
        }
      }
      write_parts<Part<T>, kColumns>(
          results, min(16, own_last - tile),
          at.parts<Part<T>>(own, kWidth) + int64_t{tile} * kWidth + column, kWidth,
          memory.out[warp]);
    }
    __syncthreads();
  }
}

}  // namespace yoso::cuda
