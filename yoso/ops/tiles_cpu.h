// Kernels on packed tiles, shared by expected_attention, its gradients and the true gradient of
// bucket_attention: products of small matrices, and collision probabilities and slopes element by
// element. SIMD behind one call a tile.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "yoso/ops/bucket_attention_grad.h"  // Gradient

namespace yoso::cpu {

// Columns come in whole vectors and rows in groups: buffers hold kTileColumns- and kTileRows-fold
// extents, where the surplus is computed from and to whatever lies there.
inline constexpr int64_t kTileRows = 8;
inline constexpr int64_t kTileColumns = 16;
// Rows and columns of a tile: few enough to stay in L2, many enough to use what is loaded often.
// Another value is judged by expected_attention_bench and expected_attention_grad_bench.
inline constexpr int64_t kTileBlock = 96;

constexpr int64_t round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

enum class Sum { kFresh, kContinued };

// c[r][j] = sum_t a[r * a_row + t * a_step] * b[t][j], or += with kContinued, for T float or
// double. The sum of a call is one chain of multiply-adds in the order of t, added to c in the end:
// a long sum made of blocks of kTileBlock terms loses far less than a single chain.
template <class T>
struct TileProduct {
  const T* a;
  int64_t a_row, a_step;
  const T* b;  // [steps, columns], rows b_row apart
  int64_t b_row;
  T* c;  // [rows, columns], rows c_row apart
  int64_t c_row;
  int64_t rows, columns, steps;
  Sum sum;
};
void multiply(const TileProduct<float>& product);
void multiply(const TileProduct<double>& product);

// columns[c][r] = rows[r][c] for r < count and c < width.
template <class T>
void transpose(const T* rows, int64_t row_stride, int64_t count, int64_t width, T* columns,
               int64_t column_stride) {
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t c = 0; c < width; ++c) columns[c * column_stride + r] = rows[r * row_stride + c];
  }
}

// x = p(x) = (1 - acos(x)/pi)^T for `count` (a multiple of kTileColumns) elements. In float, the
// relative error is below (T + 2) 2e-7 for every x in [-1, 1], taken as exact; a T that is no whole
// number, or above 64, adds 2e-7 |log p|. The absolute error of the acos is below 3e-7.
void collide(float* x, int64_t count, double code_bits);
void collide(double* x, int64_t count, double code_bits);

// x = p(x), g = slope(x) g, with T/2 p(x) for the slope or its true value.
void collide(float* x, float* g, int64_t count, double code_bits, Gradient gradient);
void collide(double* x, double* g, int64_t count, double code_bits, Gradient gradient);

}  // namespace yoso::cpu
