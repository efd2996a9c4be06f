// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/residual_norm.h"

#include <cmath>
#include <vector>

#include "yoso/core/random.h"
#include "yoso/ops/check_rows.h"
#include "yoso/ops/reference.h"

namespace yoso {
namespace {

constexpr int64_t kMaxWidth = 1024;

void check_width_of(const char* op, const char* name, const ConstArray& x) {
  if (x.cols < 1 || x.cols > kMaxWidth) {
    fail(op, ": ", name, ".cols is ", x.cols, ", expected 1 to ", kMaxWidth);
  }
}

// Present, and like `x`.
void check_like(const char* op, const char* name, const ConstArray& a, const ConstArray& x) {
  check_floating_like(op, name, a, x, x.batch, x.heads, x.rows, x.cols);
}

void check_columns(const char* op, const char* name, const ConstArray& a, const ConstArray& x) {
  check_floating_like(op, name, a, x, 1, 1, 1, x.cols);
}

void check_sums(const char* op, const char* name, const ConstArray& a, const ConstArray& x) {
  check_columns(op, name, a, x);
  if (size_of(a.dtype) < 4) {
    fail(op, ": ", name, " is ", name_of(a.dtype), ", expected float32 or float64");
  }
}

void check_dropout(const char* op, const DropoutMask& dropout) {
  const int64_t dropped = dropout.rate.dropped, most = DropoutRate::kWhole - 1;
  if (dropped < 0 || dropped > most) {
    fail(op, ": dropped is ", dropped, ", expected 0 to ", most);
  }
  if (dropped > 0 && dropout.seed == nullptr) fail(op, ": seed is null, expected one number");
}

// Calls f(b, h, i, row number) for every row.
template <class F>
void for_each_row(const ConstArray& x, F&& f) {
  for (int64_t b = 0; b < x.batch; ++b) {
    for (int64_t h = 0; h < x.heads; ++h) {
      for (int64_t i = 0; i < x.rows; ++i) f(b, h, i, (b * x.heads + h) * x.rows + i);
    }
  }
}

// k x / (1 - p)
double dropped(const DropoutMask& dropout, const ConstArray& like, int64_t row, int64_t c,
               double x) {
  const DropoutRate& rate = dropout.rate;
  if (rate.dropped == 0) return x;
  const int64_t blocks = (like.cols + rate.kPerBlock - 1) / rate.kPerBlock;
  const auto block = random_block(static_cast<uint64_t>(*dropout.seed), 0,
                                  static_cast<uint64_t>(row * blocks + c / rate.kPerBlock));
  return rate.drops(block, c) ? 0 : rate.scale<double>() * x;
}

}  // namespace

void ResidualNorm::check() const {
  check_width_of(kName, "x", x);
  check_floating(kName, "x", x, x.batch, x.heads, x.rows, x.cols);
  if (branch.data != nullptr) check_like(kName, "branch", branch, x);
  if (bias.data != nullptr) check_columns(kName, "bias", bias, x);
  if (sum.data != nullptr) check_like(kName, "sum", sum, x);
  check_like(kName, "norm", norm, x);
  if (x.size() > 0 && scale.data == nullptr) {
    fail(kName, ": scale is null, expected an array");
  }
  check_scale(kName, "scale", scale, x);
  check_dropout(kName, dropout);
  const double rounded = x.dtype == DType::kFloat64 ? epsilon : static_cast<float>(epsilon);
  if (!(rounded > 0)) fail(kName, ": epsilon is ", epsilon, ", expected a positive number");
}

void ResidualNormGrad::check() const {
  check_width_of(kName, "norm", norm);
  check_floating(kName, "norm", norm, norm.batch, norm.heads, norm.rows, norm.cols);
  if (norm.size() > 0 && scale.data == nullptr) {
    fail(kName, ": scale is null, expected that of residual_norm");
  }
  check_scale(kName, "scale", scale, norm);
  if (sum_grad.data != nullptr) check_like(kName, "sum_grad", sum_grad, norm);
  check_like(kName, "norm_grad", norm_grad, norm);
  check_like(kName, "x_grad", x_grad, norm);
  if (branch_grad.data != nullptr) check_like(kName, "branch_grad", branch_grad, norm);
  if (bias_grad.data != nullptr) check_sums(kName, "bias_grad", bias_grad, norm);
  check_dropout(kName, dropout);
}

void ColumnSums::check() const {
  check_width_of(kName, "x", x);
  check_floating(kName, "x", x, x.batch, x.heads, x.rows, x.cols);
  check_sums(kName, "out", out, x);
}

// The definitions, in double. Never optimise these.
void reference::residual_norm(const ResidualNorm& a) {
  a.check();
  const auto width = static_cast<double>(a.x.cols);
  std::vector<double> sum(static_cast<size_t>(a.x.cols));
  for_each_row(a.x, [&](int64_t b, int64_t h, int64_t i, int64_t row) {
    double mean = 0, variance = 0;
    for (int64_t c = 0; c < a.x.cols; ++c) {
      double branch = 0;
      if (a.branch.data) branch += value_at(a.branch, b, h, i, c);
      if (a.bias.data) branch += value_at(a.bias, 0, 0, 0, c);
      double& y = sum[static_cast<size_t>(c)];
      y = value_at(a.x, b, h, i, c) + dropped(a.dropout, a.x, row, c, branch);
      mean += y / width;
    }
    for (const double y : sum) variance += (y - mean) * (y - mean) / width;
    const double scale = 1 / std::sqrt(variance + a.epsilon);
    set_value(a.scale, b, h, 0, i, scale);
    for (int64_t c = 0; c < a.x.cols; ++c) {
      const double y = sum[static_cast<size_t>(c)];
      if (a.sum.data) set_value(a.sum, b, h, i, c, y);
      set_value(a.norm, b, h, i, c, scale * (y - mean));
    }
  });
}

void reference::residual_norm_grad(const ResidualNormGrad& a) {
  a.check();
  const auto width = static_cast<double>(a.norm.cols);
  std::vector<double> bias(static_cast<size_t>(a.norm.cols));
  for_each_row(a.norm, [&](int64_t b, int64_t h, int64_t i, int64_t row) {
    double mean = 0, along = 0;
    for (int64_t c = 0; c < a.norm.cols; ++c) {
      const double g = value_at(a.norm_grad, b, h, i, c);
      mean += g / width;
      along += g * value_at(a.norm, b, h, i, c) / width;
    }
    for (int64_t c = 0; c < a.norm.cols; ++c) {
      const double across =
          value_at(a.norm_grad, b, h, i, c) - mean - along * value_at(a.norm, b, h, i, c);
      double grad = value_at(a.scale, b, h, 0, i) * across;
      if (a.sum_grad.data) grad += value_at(a.sum_grad, b, h, i, c);
      set_value(a.x_grad, b, h, i, c, grad);
      const double of_branch = dropped(a.dropout, a.norm, row, c, grad);
      if (a.branch_grad.data) set_value(a.branch_grad, b, h, i, c, of_branch);
      bias[static_cast<size_t>(c)] += of_branch;
    }
  });
  for (int64_t c = 0; a.bias_grad.data && c < a.norm.cols; ++c) {
    set_value(a.bias_grad, 0, 0, 0, c, bias[static_cast<size_t>(c)]);
  }
}

void reference::column_sums(const ColumnSums& a) {
  a.check();
  for (int64_t c = 0; c < a.x.cols; ++c) {
    double sum = 0;
    for_each_row(
        a.x, [&](int64_t b, int64_t h, int64_t i, int64_t) { sum += value_at(a.x, b, h, i, c); });
    set_value(a.out, 0, 0, 0, c, sum);
  }
}

}  // namespace yoso
