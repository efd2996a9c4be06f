// Rows are independent: a worker takes many, and the compiler vectorises the loops over columns. Sums
// over rows go through partial sums of kRowsPerItem, in the order of the rows.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "yoso/core/random.h"
#include "yoso/cpu/parallel.h"
#include "yoso/ops/residual_norm.h"

namespace yoso {
namespace {

constexpr int64_t kRowsPerItem = 256;

int64_t items_of(const ConstArray& x) {
  return (x.batch * x.heads * x.rows + kRowsPerItem - 1) / kRowsPerItem;
}

// Calls body(item, b, h, i, row number) for every row, kRowsPerItem an item, in order within one.
template <class Body>
void for_each_row(const ConstArray& x, const Body& body) {
  const int64_t rows = x.batch * x.heads * x.rows;
  cpu::parallel_for(items_of(x), [&](int64_t item, int64_t) {
    const int64_t last = std::min((item + 1) * kRowsPerItem, rows);
    for (int64_t row = item * kRowsPerItem; row < last; ++row) {
      const int64_t group = row / x.rows;
      body(item, group / x.heads, group % x.heads, row % x.rows, row);
    }
  });
}

// x[c] *= k / (1 - p) for a row.
template <class Acc>
void drop(const DropoutMask& dropout, int64_t row, int64_t width, Acc* x) {
  const DropoutRate& rate = dropout.rate;
  if (rate.dropped == 0) return;
  const int64_t blocks = (width + rate.kPerBlock - 1) / rate.kPerBlock;
  for (int64_t block = 0; block < blocks; ++block) {
    const auto bits = random_block(static_cast<uint64_t>(*dropout.seed), 0,
                                   static_cast<uint64_t>(row * blocks + block));
    const int64_t last = std::min((block + 1) * rate.kPerBlock, width);
    for (int64_t c = block * rate.kPerBlock; c < last; ++c) {
      x[c] = rate.drops(bits, c) ? 0 : x[c] * rate.scale<Acc>();
    }
  }
}

// Numbers of any floating type to and from the type of the sums.
template <class Acc>
void load(const ConstArray& x, int64_t b, int64_t h, int64_t i, Acc* to) {
  with_float_type(x.dtype, [&]<class T>() {
    const T* from = x.row<T>(b, h, i);
    for (int64_t c = 0; c < x.cols; ++c) to[c] = static_cast<Acc>(to_float(from[c]));
  });
}
template <class Acc>
void store(const Array& x, int64_t b, int64_t h, int64_t i, const Acc* from) {
  if (x.data == nullptr) return;
  with_float_type(x.dtype, [&]<class T>() {
    T* to = x.row<T>(b, h, i);
    for (int64_t c = 0; c < x.cols; ++c) to[c] = from_float<T>(from[c]);
  });
}

// Parts of the columns' sums, one an item.
template <class Acc>
struct Parts {
  int64_t width;
  std::vector<Acc> sums;

  explicit Parts(const ConstArray& x)
      : width(x.cols), sums(static_cast<size_t>(items_of(x) * x.cols)) {}
  void add(int64_t item, const Acc* row) {
    Acc* to = sums.data() + item * width;
    for (int64_t c = 0; c < width; ++c) to[c] += row[c];
  }
  void store_sum(const Array& out) const {
    std::vector<Acc> all(static_cast<size_t>(width));
    for (size_t k = 0; k < sums.size(); ++k) all[k % static_cast<size_t>(width)] += sums[k];
    store(out, 0, 0, 0, all.data());
  }
};

// Calls f.template operator()<Acc>() with double for double x, else float.
template <class F>
void with_sums(const ConstArray& x, F&& f) {
  x.dtype == DType::kFloat64 ? f.template operator()<double>() : f.template operator()<float>();
}

constexpr int64_t kMost = 1024;
template <class Acc>
using RowOf = std::array<Acc, kMost>;

}  // namespace

void cpu::residual_norm(const ResidualNorm& a) {
  a.check();
  with_sums(a.x, [&]<class Acc>() {
    const int64_t width = a.x.cols;
    std::vector<Acc> bias(static_cast<size_t>(width));
    if (a.bias.data) load(a.bias, 0, 0, 0, bias.data());
    for_each_row(a.x, [&](int64_t, int64_t b, int64_t h, int64_t i, int64_t row) {
      RowOf<Acc> sum, branch;
      load(a.x, b, h, i, sum.data());
      if (a.branch.data || a.bias.data) {
        std::fill_n(branch.begin(), width, Acc{0});
        if (a.branch.data) load(a.branch, b, h, i, branch.data());
        for (int64_t c = 0; c < width; ++c)
          branch[static_cast<size_t>(c)] += bias[static_cast<size_t>(c)];
        drop(a.dropout, row, width, branch.data());
        for (size_t c = 0; c < static_cast<size_t>(width); ++c) sum[c] += branch[c];
      }
      store(a.sum, b, h, i, sum.data());
      Acc mean = 0, variance = 0;
      for (size_t c = 0; c < static_cast<size_t>(width); ++c) mean += sum[c];
      mean /= static_cast<Acc>(width);
      for (size_t c = 0; c < static_cast<size_t>(width); ++c) {
        sum[c] -= mean;
        variance += sum[c] * sum[c];
      }
      const Acc scale =
          1 / std::sqrt(variance / static_cast<Acc>(width) + static_cast<Acc>(a.epsilon));
      a.scale.row<Acc>(b, h, 0)[i] = scale;
      for (size_t c = 0; c < static_cast<size_t>(width); ++c) sum[c] *= scale;
      store(a.norm, b, h, i, sum.data());
    });
  });
}

void cpu::residual_norm_grad(const ResidualNormGrad& a) {
  a.check();
  with_sums(a.norm, [&]<class Acc>() {
    const int64_t width = a.norm.cols;
    Parts<Acc> parts(a.norm);
    for_each_row(a.norm, [&](int64_t item, int64_t b, int64_t h, int64_t i, int64_t row) {
      RowOf<Acc> norm, grad;
      load(a.norm, b, h, i, norm.data());
      load(a.norm_grad, b, h, i, grad.data());
      Acc mean = 0, along = 0;
      for (size_t c = 0; c < static_cast<size_t>(width); ++c) {
        mean += grad[c];
        along += grad[c] * norm[c];
      }
      mean /= static_cast<Acc>(width);
      along /= static_cast<Acc>(width);
      const Acc scale = a.scale.row<Acc>(b, h, 0)[i];
      for (size_t c = 0; c < static_cast<size_t>(width); ++c) {
        grad[c] = scale * (grad[c] - mean - along * norm[c]);
      }
      if (a.sum_grad.data) {
        load(a.sum_grad, b, h, i, norm.data());
        for (size_t c = 0; c < static_cast<size_t>(width); ++c) grad[c] += norm[c];
      }
      store(a.x_grad, b, h, i, grad.data());
      drop(a.dropout, row, width, grad.data());
      store(a.branch_grad, b, h, i, grad.data());
      if (a.bias_grad.data) parts.add(item, grad.data());
    });
    if (a.bias_grad.data) parts.store_sum(a.bias_grad);
  });
}

void cpu::column_sums(const ColumnSums& a) {
  a.check();
  with_sums(a.x, [&]<class Acc>() {
    Parts<Acc> parts(a.x);
    for_each_row(a.x, [&](int64_t item, int64_t b, int64_t h, int64_t i, int64_t) {
      RowOf<Acc> row;
      load(a.x, b, h, i, row.data());
      parts.add(item, row.data());
    });
    parts.store_sum(a.out);
  });
}

}  // namespace yoso
