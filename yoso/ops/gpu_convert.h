// Arrays of another element type, for operators whose kernels take one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/cuda/elements.h"
#include "yoso/cuda/launch.h"
#include "yoso/cuda/stream.h"

namespace yoso::cuda {

template <class From, class To>
__global__ void convert(ConstArray from, Array to) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= from.size()) return;
  const int64_t c = i % from.cols, row = i / from.cols;
  const int64_t r = row % from.rows, h = row / from.rows % from.heads;
  const int64_t b = row / from.rows / from.heads;
  to.row<To>(b, h, r)[c] = narrow<To>(widen(from.row<From>(b, h, r)[c]));
}

// `from`, rounded to T, dense; it lives as long as the innermost Scope.
template <class T>
ConstArray converted(const char* op, const char* what, const ConstArray& from, Stream& stream) {
  const Array to =
      dense(stream.allocate<T>(from.size()), from.batch, from.heads, from.rows, from.cols);
  with_gpu_type(op, what, from.dtype, [&]<class From>() {
    launch(op, stream.handle(), ceil_div(from.size(), 256), 256, 0, convert<From, T>, from, to);
  });
  return to;
}

}  // namespace yoso::cuda
