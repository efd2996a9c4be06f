// Eight lanes a row, 16 bytes a lane at a time where rows are aligned. A row is read twice, the second
// time from L1.
// SPDX-License-Identifier: Apache-2.0
#include "yoso/cuda/elements.h"
#include "yoso/cuda/launch.h"
#include "yoso/cuda/stream.h"
#include "yoso/ops/unit_rows.h"

namespace yoso::cuda {
namespace {

constexpr int kLanes = 8, kThreads = 256, kRows = kThreads / kLanes;

struct Row {
  int64_t batch, head, row;
};

__device__ inline Row this_row(const ConstArray& x) {
  const int64_t i = int64_t{blockIdx.x} * kRows + threadIdx.x / kLanes;
  if (x.batch * x.heads * x.rows > INT32_MAX) {
    return {i / x.rows / x.heads, i / x.rows % x.heads, i % x.rows};
  }
  const auto n = static_cast<uint32_t>(i), rows = static_cast<uint32_t>(x.rows),
             heads = static_cast<uint32_t>(x.heads);
  return {n / rows / heads, n / rows % heads, n % rows};
}

template <class Sum>
__device__ inline Sum sum_over_lanes(Sum sum) {
  for (int step = kLanes / 2; step >= 1; step /= 2) sum += __shfl_xor_sync(kFullWarp, sum, step);
  return sum;
}

// Calls f(c) for the first of every kSize columns that are this lane's.
template <int kSize, class F>
__device__ inline void for_my_columns(int64_t width, F&& f) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  for (int64_t c = lane * kSize; c < width; c += kLanes * kSize) f(c);
}

// The sum of the squares of a row, in Sum.
template <class Sum, int kSize, class X>
__device__ inline Sum square_of(const X* x, int64_t width) {
  Sum square = 0;
  for_my_columns<kSize>(width, [&](int64_t c) {
    const auto v = Vec<X, kSize>::load(x + c);
#pragma unroll
    for (int k = 0; k < kSize; ++k) {
      const Sum value = widen(v.at[k]);
      square += value * value;
    }
  });
  return square;
}

template <class X, class Y, int kSize>
__global__ void __launch_bounds__(kThreads) normalise(UnitRows a) {
  const auto [batch, head, row] = this_row(a.x);
  const bool exists = batch < a.x.batch;
  const X* x = exists ? a.x.row<X>(batch, head, row) : nullptr;
  const int64_t width = exists ? a.x.cols : 0;
  const float square = sum_over_lanes(square_of<float, kSize>(x, width));
  // Squares, and what of them could be lost, within the range of float.
  const bool in_range = square > 0x1p-60f && square < 0x1p120f;
  float scale = __frsqrt_rn(square);
  if (__any_sync(kFullWarp, exists && !in_range)) {
    const double wide = sum_over_lanes(square_of<double, kSize>(x, width));
    if (!in_range) scale = static_cast<float>(1 / fmax(sqrt(wide), kUnitRowsEpsilon));
  }
  if (!exists) return;
  if (a.scale.data && threadIdx.x % kLanes == 0) a.scale.row<float>(batch, head, 0)[row] = scale;
  if (!a.y.data) return;
  Y* y = a.y.row<Y>(batch, head, row);
  for_my_columns<kSize>(width, [&](int64_t c) {
    const auto v = Vec<X, kSize>::load(x + c);
    Vec<Y, kSize> result;
#pragma unroll
    for (int k = 0; k < kSize; ++k) result.at[k] = narrow<Y>(scale * widen(v.at[k]));
    result.store(y + c);
  });
}

template <class X, class G, class Out, int kSize>
__global__ void __launch_bounds__(kThreads) differentiate(UnitRowsGrad a) {
  const auto [batch, head, row] = this_row(a.x);
  const bool exists = batch < a.x.batch;
  const X* x = exists ? a.x.row<X>(batch, head, row) : nullptr;
  const G* y_grad = exists ? a.y_grad.row<G>(batch, head, row) : nullptr;
  const int64_t width = exists ? a.x.cols : 0;
  float along = 0;
  for_my_columns<kSize>(width, [&](int64_t c) {
    const auto v = Vec<X, kSize>::load(x + c);
    const auto g = Vec<G, kSize>::load(y_grad + c);
#pragma unroll
    for (int k = 0; k < kSize; ++k) along += widen(v.at[k]) * widen(g.at[k]);
  });
  along = sum_over_lanes(along);
  if (!exists) return;
  const float scale = a.scale.row<float>(batch, head, 0)[row];
  const float unit = a.x_scale.data ? a.x_scale.row<float>(batch, head, 0)[row] : 1.0f;
  const bool has_direction = scale < static_cast<float>(1 / kUnitRowsEpsilon);
  Out* x_grad = a.x_grad.row<Out>(batch, head, row);
  for_my_columns<kSize>(width, [&](int64_t c) {
    const auto v = Vec<X, kSize>::load(x + c);
    const auto g = Vec<G, kSize>::load(y_grad + c);
    Vec<Out, kSize> result;
#pragma unroll
    for (int k = 0; k < kSize; ++k) {
      const float across = widen(g.at[k]) - unit * along * (unit * widen(v.at[k]));
      result.at[k] = narrow<Out>(has_direction ? scale * across : 0.0f);
    }
    result.store(x_grad + c);
  });
}

int64_t blocks(const ConstArray& x) { return ceil_div(x.batch * x.heads * x.rows, kRows); }

}  // namespace

void unit_rows(const UnitRows& a, Stream& stream) {
  a.check();
  with_gpu_type(UnitRows::kName, "x", a.x.dtype, [&]<class X>() {
    with_gpu_type(UnitRows::kName, "y", a.y.data ? a.y.dtype : a.x.dtype, [&]<class Y>() {
      const bool wide =
          a.x.cols % kVec<X> == 0 && is_aligned(a.x) && (a.y.data == nullptr || is_aligned(a.y));
      launch(UnitRows::kName, stream.handle(), blocks(a.x), kThreads, 0,
             wide ? normalise<X, Y, kVec<X>> : normalise<X, Y, 1>, a);
    });
  });
}

void unit_rows_grad(const UnitRowsGrad& a, Stream& stream) {
  a.check();
  constexpr const char* kName = UnitRowsGrad::kName;
  with_gpu_type(kName, "x", a.x.dtype, [&]<class X>() {
    with_gpu_type(kName, "y_grad", a.y_grad.dtype, [&]<class G>() {
      with_gpu_type(kName, "x_grad", a.x_grad.dtype, [&]<class Out>() {
        const bool wide = a.x.cols % kVec<X> == 0 && is_aligned(a.x) && is_aligned(a.y_grad) &&
                          is_aligned(a.x_grad);
        launch(kName, stream.handle(), blocks(a.x), kThreads, 0,
               wide ? differentiate<X, G, Out, kVec<X>> : differentiate<X, G, Out, 1>, a);
      });
    });
  });
}

}  // namespace yoso::cuda
