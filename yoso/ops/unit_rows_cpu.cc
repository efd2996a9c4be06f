// Rows are independent and a row is a few cache lines: plain loops, which the compiler vectorises.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "yoso/cpu/parallel.h"
#include "yoso/ops/unit_rows.h"

namespace yoso {
namespace {

constexpr int64_t kRowsPerItem = 512;

// Calls body(b, h, i) for every row of `x`, many rows an item.
template <class Body>
void for_each_row(const ConstArray& x, const Body& body) {
  const int64_t blocks = (x.rows + kRowsPerItem - 1) / kRowsPerItem;
  cpu::parallel_for(x.batch * x.heads * blocks, [&](int64_t item, int64_t) {
    const int64_t group = item / blocks, first = item % blocks * kRowsPerItem;
    const int64_t last = std::min(first + kRowsPerItem, x.rows);
    for (int64_t i = first; i < last; ++i) body(group / x.heads, group % x.heads, i);
  });
}

// Sums of products over a row, in eight interleaved partial sums so that they can be vectorised.
template <class Acc, class X, class Y>
Acc dot(const X* x, const Y* y, int64_t width) {
  Acc sums[8] = {};
  int64_t c = 0;
  for (; c + 8 <= width; c += 8) {
    for (int k = 0; k < 8; ++k)
      sums[k] += static_cast<Acc>(to_float(x[c + k])) * static_cast<Acc>(to_float(y[c + k]));
  }
  for (int k = 0; c < width; ++c, ++k)
    sums[k] += static_cast<Acc>(to_float(x[c])) * static_cast<Acc>(to_float(y[c]));
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

}  // namespace

void cpu::unit_rows(const UnitRows& a) {
  a.check();
  with_float_type(a.x.dtype, [&]<class X>() {
    using Acc = Accumulator<X>;
    with_float_type(a.y.data ? a.y.dtype : a.x.dtype, [&]<class Y>() {
      for_each_row(a.x, [&](int64_t b, int64_t h, int64_t i) {
        const X* x = a.x.row<X>(b, h, i);
        // The squares of a float row can leave the range of float, those of a double row hardly do.
        const double norm = std::sqrt(dot<double>(x, x, a.x.cols));
        const Acc scale = static_cast<Acc>(1 / std::max(norm, kUnitRowsEpsilon));
        if (a.scale.data) a.scale.row<Acc>(b, h, 0)[i] = scale;
        if (!a.y.data) return;
        Y* y = a.y.row<Y>(b, h, i);
        for (int64_t c = 0; c < a.x.cols; ++c)
          y[c] = from_float<Y>(scale * static_cast<Acc>(to_float(x[c])));
      });
    });
  });
}

void cpu::unit_rows_grad(const UnitRowsGrad& a) {
  a.check();
  with_float_type(a.x.dtype, [&]<class X>() {
    using Acc = Accumulator<X>;
    with_float_type(a.y_grad.dtype, [&]<class G>() {
      with_float_type(a.x_grad.dtype, [&]<class Out>() {
        for_each_row(a.x, [&](int64_t b, int64_t h, int64_t i) {
          const X* x = a.x.row<X>(b, h, i);
          const G* y_grad = a.y_grad.row<G>(b, h, i);
          Out* x_grad = a.x_grad.row<Out>(b, h, i);
          const Acc scale = a.scale.row<Acc>(b, h, 0)[i];
          const Acc unit = a.x_scale.data ? a.x_scale.row<Acc>(b, h, 0)[i] : Acc{1};
          const bool has_direction = scale < static_cast<float>(1 / kUnitRowsEpsilon);
          const Acc along = unit * dot<Acc>(x, y_grad, a.x.cols);
          for (int64_t c = 0; c < a.x.cols; ++c) {
            const Acc across = static_cast<Acc>(to_float(y_grad[c])) -
                               along * unit * static_cast<Acc>(to_float(x[c]));
            x_grad[c] = from_float<Out>(has_direction ? scale * across : Acc{0});
          }
        });
      });
    });
  });
}

}  // namespace yoso
