// Eight lanes a row: whatever its width, they read it twice, the second time from L1.
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
  return {i / x.rows / x.heads, i / x.rows % x.heads, i % x.rows};
}

template <class Sum>
__device__ inline Sum sum_over_lanes(Sum sum) {
  for (int step = kLanes / 2; step >= 1; step /= 2) sum += __shfl_xor_sync(kFullWarp, sum, step);
  return sum;
}

template <class X, class Y>
__global__ void __launch_bounds__(kThreads) normalise(UnitRows a) {
  const auto [batch, head, row] = this_row(a.x);
  const bool exists = batch < a.x.batch;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const X* x = exists ? a.x.row<X>(batch, head, row) : nullptr;
  // The squares of floats can leave the range of float.
  double square = 0;
  for (int64_t c = lane; exists && c < a.x.cols; c += kLanes) {
    const double value = widen(x[c]);
    square += value * value;
  }
  square = sum_over_lanes(square);
  if (!exists) return;
  const float scale = static_cast<float>(1 / fmax(sqrt(square), kUnitRowsEpsilon));
  if (a.scale.data && lane == 0) a.scale.row<float>(batch, head, 0)[row] = scale;
  if (!a.y.data) return;
  Y* y = a.y.row<Y>(batch, head, row);
  for (int64_t c = lane; c < a.x.cols; c += kLanes) y[c] = narrow<Y>(scale * widen(x[c]));
}

template <class X, class G, class Out>
__global__ void __launch_bounds__(kThreads) differentiate(UnitRowsGrad a) {
  const auto [batch, head, row] = this_row(a.x);
  const bool exists = batch < a.x.batch;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const X* x = exists ? a.x.row<X>(batch, head, row) : nullptr;
  const G* y_grad = exists ? a.y_grad.row<G>(batch, head, row) : nullptr;
  float along = 0;
  for (int64_t c = lane; exists && c < a.x.cols; c += kLanes) {
    along += widen(x[c]) * widen(y_grad[c]);
  }
  along = sum_over_lanes(along);
  if (!exists) return;
  const float scale = a.scale.row<float>(batch, head, 0)[row];
  const float unit = a.x_scale.data ? a.x_scale.row<float>(batch, head, 0)[row] : 1.0f;
  const bool has_direction = scale < static_cast<float>(1 / kUnitRowsEpsilon);
  Out* x_grad = a.x_grad.row<Out>(batch, head, row);
  for (int64_t c = lane; c < a.x.cols; c += kLanes) {
    const float across = widen(y_grad[c]) - unit * along * (unit * widen(x[c]));
    x_grad[c] = narrow<Out>(has_direction ? scale * across : 0.0f);
  }
}

int64_t blocks(const ConstArray& x) { return ceil_div(x.batch * x.heads * x.rows, kRows); }

}  // namespace

void unit_rows(const UnitRows& a, Stream& stream) {
  a.check();
  with_gpu_type(UnitRows::kName, "x", a.x.dtype, [&]<class X>() {
    with_gpu_type(UnitRows::kName, "y", a.y.data ? a.y.dtype : a.x.dtype, [&]<class Y>() {
      launch(UnitRows::kName, stream.handle(), blocks(a.x), kThreads, 0, normalise<X, Y>, a);
    });
  });
}

void unit_rows_grad(const UnitRowsGrad& a, Stream& stream) {
  a.check();
  constexpr const char* kName = UnitRowsGrad::kName;
  with_gpu_type(kName, "x", a.x.dtype, [&]<class X>() {
    with_gpu_type(kName, "y_grad", a.y_grad.dtype, [&]<class G>() {
      with_gpu_type(kName, "x_grad", a.x_grad.dtype, [&]<class Out>() {
        launch(kName, stream.handle(), blocks(a.x), kThreads, 0, differentiate<X, G, Out>, a);
      });
    });
  });
}

}  // namespace yoso::cuda
