// The sums of pair_sums.h on tensor cores, for rows and values of 16 bits and up to 128 columns.
//
// A block keeps rows of the fixed side in registers, as fragments, and walks through the moving
// side in tiles, of which the next one is on its way while one is used. Of a tile some columns (its
// rows) are taken at a time: x = rows . rows (and G.v = values . values) come out of the tensor
// cores in the layout in which, weighed and rounded to 16 bits, they go in again as factors of the
// sums. There is no maximum and nothing to rescale. Sums are float; a row's order is that of real
// rows.
//
// An engine multiplies: MmaEngine below on every GPU, WgmmaEngine (pair_sums_wgmma.h) on Hopper.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <type_traits>

#include "yoso/cuda/mma.h"
#include "yoso/cuda/shared_tile.h"
#include "yoso/ops/pair_sums.h"

namespace yoso::cuda {

// Starts to copy kRows real rows from `first` on; zeros stand for rows and columns there are not.
template <class T, int kRows, int kThreads, int kWidth>
__device__ void copy_tile(const ConstArray& x, const PairSide::Sequence& s, int64_t head,
                          int64_t first, SharedTile<kWidth> tile) {
  using Tile = SharedTile<kWidth>;
  constexpr int kStep = kThreads / Tile::kChunks;
  const uint32_t chunk = threadIdx.x % Tile::kChunks, row = threadIdx.x / Tile::kChunks;
  const uint32_t to = tile.base + Tile::offset(row, chunk);
  const T* column = x.row<T>(s.batch, head, s.begin) + 8 * chunk;
  // This thread's rows r, r + kStep, ... are there below `left`.
  const int64_t left_rows = s.count - first - row;
  const int left = 8 * chunk < x.cols ? static_cast<int>(std::min<int64_t>(left_rows, kRows)) : 0;
  if (s.real == nullptr) {
    const T* from = column + (first + row) * x.row_stride;
    const int64_t step = kStep * x.row_stride;
#pragma unroll
    for (int r = 0; r < kRows; r += kStep, from += step) {
      copy_async<16>(to + r * Tile::kRowBytes, from, r < left);
    }
  } else {
#pragma unroll 1
    for (int r = 0; r < kRows; r += kStep) {
      const int64_t place = r < left ? s.real[first + row + r] : 0;
      copy_async<16>(to + r * Tile::kRowBytes, column + place * x.row_stride, r < left);
    }
  }
}

// A warp's rows of the fixed side: kRowTiles of 16, kSteps of 16 columns.
template <int kRowTiles, int kSteps>
using FixedFragments = uint32_t[kRowTiles][kSteps][4];

template <int kRowTiles, int kSteps, int kWidth>
__device__ void load_fixed(SharedTile<kWidth> tile, FixedFragments<kRowTiles, kSteps>& a) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      tile.load_a(tile.a_lane(), (warp * kRowTiles + m) * 16, k, a[m][k]);
    }
  }
}

// Products of each warp for itself: mma.sync.
template <class Type, int kTileWidth, Sum kSumOf>
struct MmaEngine {
  using T = Type;
  using Tile = SharedTile<kTileWidth>;
  static constexpr bool kIsCompiled = true;  // where it is not, the kernel is empty
  static constexpr Sum kSum = kSumOf;
  static constexpr int kWidth = kTileWidth, kSteps = kWidth / 16;
  // 16 rows a warp hold less; 32 rows read shared memory half as often.
  static constexpr int kRowTiles = kSum == Sum::kValues && kWidth <= 64 ? 2 : 1;
  static constexpr int kFixedRows = 128, kMovingRows = 64, kColumns = 16;
  static constexpr int kThreads = kFixedRows / (16 * kRowTiles) * kWarp;
  static constexpr int kBlocks = kRowTiles == 2 ? 3 : kWidth <= 64 ? 2 : 1;  // a multiprocessor

  using Fragments = FixedFragments<kRowTiles, kSteps>;
  using Products = float[2 * kRowTiles][4];  // [2 m + n]: fixed rows 16 m ..., columns 8 n ...
  using Sums = float[kRowTiles][2 * kSteps][4];

  // x: the products of the fixed rows with moving rows first ...
  static __device__ void multiply(const Fragments& a, Tile tile, int first, Products& x) {
#pragma unroll
    for (int i = 0; i < 8 * kRowTiles; ++i) x[i / 4][i % 4] = 0;
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      uint32_t b[4];
      tile.load_columns(tile.columns_lane(), first, k, b);
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        mma<T>(x[2 * m], a[m][k], b[0], b[1]);
        mma<T>(x[2 * m + 1], a[m][k], b[2], b[3]);
      }
    }
  }

  // sums += x, rounded, times moving rows first ...
  static __device__ void add_products(const Products& x, Tile tile, int first, Sums& sums) {
    uint32_t a[kRowTiles][4];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) pack_factors<T>(x, m, a[m]);
#pragma unroll
    for (int n = 0; n < 2 * kSteps; n += 2) {
      uint32_t b[4];
      tile.load_rows(tile.rows_lane(), first, n / 2, b);
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        mma<T>(sums[m][n], a[m], b[0], b[1]);
        mma<T>(sums[m][n + 1], a[m], b[2], b[3]);
      }
    }
  }

  // Before the barrier after which what was copied is multiplied.
  static __device__ void publish_copies() {}
  // Before products or sums are read.
  template <class Results>
  static __device__ void finish(Results&) {}
};

// Two neighbours of a row, the second one where it is `both`.
__device__ inline void store_pair(const Array& out, int64_t i, float x, float y, bool both) {
  if (both && out.dtype != DType::kFloat32 && i % 2 == 0) {
    uint32_t* to = reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(out.data) + i);
    if (reinterpret_cast<uintptr_t>(to) % 4 == 0) {
      *to = out.dtype == DType::kBFloat16 ? pack<BFloat16>(x, y) : pack<Float16>(x, y);
      return;
    }
  }
  store_as(out.data, out.dtype, i, x);
  if (both) store_as(out.data, out.dtype, i + 1, y);
}

template <int kRowTiles, int kTiles>
__device__ void store_sums(const float (&sums)[kRowTiles][kTiles][4], float factor,
                           const PairSide::Sequence& fixed, int64_t head, int64_t first,
                           const Array& out) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t r = first + 16 * m + 8 * half + lane / 4;
      if (r >= fixed.count) continue;
      const int64_t row =
          fixed.batch * out.batch_stride + head * out.head_stride + fixed[r] * out.row_stride;
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const int64_t c = 8 * n + lane % 4 * 2;
        if (c >= out.cols) break;
        store_pair(out, row + c, factor * sums[m][n][2 * half], factor * sums[m][n][2 * half + 1],
                   c + 1 < out.cols);
      }
    }
  }
}

// x times the scales of its columns. `scales`: of this lane's first column.
template <int kRowTiles, int kCount>
__device__ void scale_columns(float (&x)[kCount][4], const float* scales) {
  constexpr int kTiles = kCount / kRowTiles;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const auto pair = Vec<float, 2>::load(scales + 8 * n);
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int k = 0; k < 4; ++k) x[m * kTiles + n][k] *= pair.at[k % 2];
    }
  }
}

// Shared memory of a block: of both stages the moving side's rows and values, then of both its
// scales.
template <class Engine>
struct PairMemory {
  static constexpr int kTileBytes = Engine::kMovingRows * Engine::kWidth * 2;
  static constexpr int kScales = 2 * 2 * kTileBytes;
  static constexpr int kBytes = kScales + 2 * Engine::kMovingRows * 4;
  static_assert(2 * Engine::kFixedRows * Engine::kWidth * 2 <= kBytes,
                "the fixed side passes through");
};

template <class Engine>
__global__ void __launch_bounds__(Engine::kThreads, Engine::kBlocks)
    sum_pairs_on_tensor_cores(PairSums a) {
  if constexpr (Engine::kIsCompiled) {
    using T = typename Engine::T;
    using Tile = typename Engine::Tile;
    using Memory = PairMemory<Engine>;
    constexpr int kRowTiles = Engine::kRowTiles, kSteps = Engine::kSteps;
    constexpr int kThreads = Engine::kThreads;
    constexpr int kFixedRows = Engine::kFixedRows, kMovingRows = Engine::kMovingRows;
    constexpr bool kValues = Engine::kSum != Sum::kRows, kRows = Engine::kSum != Sum::kValues;
    extern __shared__ __align__(1024) unsigned char memory[];
    const uint32_t shared = shared_address(memory);

    const int64_t head = blockIdx.x / a.tiles.total;
    const auto [b, tile] = a.tiles[blockIdx.x % a.tiles.total];
    const auto fixed = a.fixed[b], moving = a.moving[b];
    const int64_t first = tile * kFixedRows;
    if (first >= fixed.count) return;
    const int tid = static_cast<int>(threadIdx.x), lane = tid % kWarp;
    const int64_t my_first = first + tid / kWarp * 16 * kRowTiles;  // row of this warp

    FixedFragments<kRowTiles, kSteps> rows;
    FixedFragments<kRowTiles, kRows ? kSteps : 1> values;
    copy_tile<T, kFixedRows, kThreads>(a.fixed.rows, fixed, head, first, Tile{shared});
    const Tile fixed_values{shared + kFixedRows * Tile::kRowBytes};
    if constexpr (kRows) {
      copy_tile<T, kFixedRows, kThreads>(a.fixed.values, fixed, head, first, fixed_values);
    }
    wait_for_copies();
    __syncthreads();
    load_fixed(Tile{shared}, rows);
    if constexpr (kRows) load_fixed(fixed_values, values);
    __syncthreads();

    CosineScale scales[2 * kRowTiles];
#pragma unroll
    for (int k = 0; k < 2 * kRowTiles; ++k) {
      const int64_t r = my_first + 8 * k + lane / 4;
      if (a.fixed.scale.data && r < fixed.count) {
        scales[k] = CosineScale(a.fixed.scale.row<float>(fixed.batch, head, 0)[fixed[r]]);
      }
    }

    typename Engine::Sums value_sums = {}, row_sums = {};

    // The next tile of the moving side to copy: head by head, in the order of real rows.
    int64_t next_head = a.first_head(head), next_row = 0;
    const int64_t end_head = moving.count == 0 ? next_head : next_head + a.heads();
    const auto copy_next = [&](int stage) {
      if (next_head == end_head) return;
      const Tile to{shared + stage * 2 * Memory::kTileBytes};
      copy_tile<T, kMovingRows, kThreads>(a.moving.rows, moving, next_head, next_row, to);
      copy_tile<T, kMovingRows, kThreads>(a.moving.values, moving, next_head, next_row,
                                          Tile{to.base + Memory::kTileBytes});
      if (a.moving.scale.data && tid < kMovingRows) {
        const bool there = next_row + tid < moving.count;
        const float* scale = a.moving.scale.row<float>(moving.batch, next_head, 0);
        copy_async<4>(shared + Memory::kScales + 4 * (stage * kMovingRows + tid),
                      there ? scale + moving[next_row + tid] : scale, there);
      }
      next_row += kMovingRows;
      if (next_row >= moving.count) {
        next_row = 0;
        ++next_head;
      }
    };

    const int64_t num_tiles = (end_head - next_head) * ceil_div(moving.count, kMovingRows);
    copy_next(0);
    for (int64_t t = 0; t < num_tiles; ++t) {
      const int stage = t % 2;
      wait_for_copies();
      Engine::publish_copies();
      __syncthreads();
      copy_next(1 - stage);
      const Tile moving_rows{shared + stage * 2 * Memory::kTileBytes};
      const Tile moving_values{moving_rows.base + Memory::kTileBytes};
      const float* moving_scales = reinterpret_cast<const float*>(memory + Memory::kScales) +
                                   stage * kMovingRows + lane % 4 * 2;
#pragma unroll 2
      for (int j = 0; j < kMovingRows; j += Engine::kColumns) {
        typename Engine::Products x, g;
        Engine::multiply(rows, moving_rows, j, x);
        if constexpr (kRows) Engine::multiply(values, moving_values, j, g);
        Engine::finish(x);
        if (a.moving.scale.data) scale_columns<kRowTiles>(x, moving_scales + j);
        if constexpr (kRows) {
          Engine::finish(g);
          a.weight.weigh(x, scales, g);
          if (a.moving.scale.data) scale_columns<kRowTiles>(g, moving_scales + j);
          Engine::add_products(g, moving_rows, j, row_sums);
        } else {
          a.weight.weigh(x, scales);
        }
        if constexpr (kValues) Engine::add_products(x, moving_values, j, value_sums);
        if constexpr (kValues) Engine::finish(value_sums);
        if constexpr (kRows) Engine::finish(row_sums);
      }
    }

    if constexpr (kValues) store_sums(value_sums, 1, fixed, head, my_first, a.values_out);
    if constexpr (kRows) {
      store_sums(row_sums, a.weight.slope_factor(), fixed, head, my_first, a.rows_out);
    }
  }
}

// A warp a row: `x` as rows of `width` elements of T on boundaries of 16 bytes, zeros after x.cols.
// With a scale, rows take over its power of two, exactly, and `scale_out` is what is left of it,
// from 1/2 to 1: short rows of half need scales that half does not hold.
template <class T, int kThreads>
__global__ void pack_rows(ConstArray x, ConstArray scale, T* out, int64_t width, float* scale_out) {
  const int64_t item = int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
  const int64_t i = item % x.rows, head = item / x.rows % x.heads, batch = item / x.rows / x.heads;
  if (batch >= x.batch) return;
  int exponent = 0;
  if (scale.data) {
    const float whole = scale.row<float>(batch, head, 0)[i], rest = frexpf(whole, &exponent);
    if (!isfinite(whole)) exponent = 0;
    if (threadIdx.x % kWarp == 0) scale_out[item] = isfinite(whole) ? rest : whole;
  }
  const int64_t row = batch * x.batch_stride + head * x.head_stride + i * x.row_stride;
  for (int64_t c = threadIdx.x % kWarp; c < width; c += kWarp) {
    const float value = c < x.cols ? load_as_float(x.data, x.dtype, row + c) : 0.0f;
    out[item * width + c] = narrow<T>(ldexpf(value, exponent));
  }
}

// `x` as copy_tile wants it: of T, rows on boundaries of 16 bytes and whole chunks of 8 columns.
template <class T>
void pack_where_needed(const char* op, ConstArray& x, Stream& stream, ConstArray* scale = nullptr) {
  const bool scaled = scale && scale->data && std::is_same_v<T, Float16>;
  if (x.dtype == DTypeOf<T>::value && is_aligned(x) && x.cols % 8 == 0 && !scaled) return;
  constexpr int kThreads = 256;
  const int64_t width = ceil_div(x.cols, 8) * 8, rows = x.batch * x.heads * x.rows;
  T* out = stream.allocate<T>(rows * width);
  float* scale_out = scaled ? stream.allocate<float>(rows) : nullptr;
  launch(op, stream.handle(), ceil_div(rows, kThreads / kWarp), kThreads, 0, pack_rows<T, kThreads>,
         x, scaled ? *scale : ConstArray{}, out, width, scale_out);
  x = {out,    DTypeOf<T>::value,        x.batch,        x.heads, x.rows,
       x.cols, x.heads * x.rows * width, x.rows * width, width};
  if (scaled) *scale = dense<const float>(scale_out, x.batch, x.heads, 1, x.rows);
}

// Whether an engine takes these.
inline bool fits_tensor_cores(const ConstArray& rows, const ConstArray& values) {
  return size_of(rows.dtype) == 2 && rows.cols <= 128 && values.cols <= 128;
}

// Calls f.template operator()<kWidth>() for the narrowest tiles of at least `width` columns.
template <class F>
auto with_width(int64_t width, F&& f) {
  if (width <= 32) return f.template operator()<32>();
  return width <= 64 ? f.template operator()<64>() : f.template operator()<128>();
}

// Calls f.template operator()<T, kWidth>() for the narrowest tiles that hold the arrays of `a`.
template <class F>
void with_tile(const PairSums& a, F&& f) {
  with_width(std::max(a.moving.rows.cols, a.moving.values.cols), [&]<int kWidth>() {
    a.moving.rows.dtype == DType::kBFloat16 ? f.template operator()<BFloat16, kWidth>()
                                            : f.template operator()<Float16, kWidth>();
  });
}

template <class Engine>
void run_engine(const char* op, PairSums a, const GpuSide& side, Stream& stream) {
  a.tiles = side.tiles(Engine::kFixedRows);
  launch(op, stream.handle(), a.fixed.rows.heads * a.tiles.total, Engine::kThreads,
         PairMemory<Engine>::kBytes, sum_pairs_on_tensor_cores<Engine>, a);
}

}  // namespace yoso::cuda
