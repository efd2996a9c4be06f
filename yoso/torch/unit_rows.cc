// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/unit_rows.h"

#include <tuple>

#include "yoso/torch/arguments.h"
#include "yoso/torch/operators.h"
#include "yoso/torch/runner.h"

namespace yoso {
namespace {

Tensor empty_scale(const Tensor& like, const ConstArray& x) {
  return empty_codes(like, x.batch, x.heads, 1, x.rows, accumulation_type(like));
}

}  // namespace

std::tuple<Tensor, Tensor> unit_rows(const Tensor& x, ScalarType dtype) {
  Arguments args(UnitRows::kName);
  UnitRows a;
  a.x = args.input("x", x, Layout::kTokens);
  Tensor y = empty_tokens(x, a.x.batch, a.x.rows, a.x.heads, a.x.cols, dtype);
  Tensor scale = empty_scale(x, a.x);
  a.y = args.output("y", y, Layout::kTokens);
  a.scale = args.output("scale", scale, Layout::kCodes);
  run<cpu::unit_rows, cuda::unit_rows>(a, x);
  return {y, scale};
}

Tensor unit_rows_(const Tensor& x) {
  Arguments args(UnitRows::kName);
  const Array y = args.output("x", x, Layout::kTokens);
  Tensor scale = empty_scale(x, y);
  const UnitRows a{.x = y, .y = y, .scale = args.output("scale", scale, Layout::kCodes)};
  run<cpu::unit_rows, cuda::unit_rows>(a, x);
  return scale;
}

Tensor row_scales(const Tensor& x) {
  Arguments args(UnitRows::kName);
  UnitRows a{.x = args.input("x", x, Layout::kTokens), .y = {}};
  Tensor scale = empty_scale(x, a.x);
  a.scale = args.output("scale", scale, Layout::kCodes);
  run<cpu::unit_rows, cuda::unit_rows>(a, x);
  return scale;
}

Tensor unit_rows_grad(const Tensor& x, const std::optional<Tensor>& x_scale, const Tensor& scale,
                      const Tensor& y_grad, ScalarType dtype) {
  Arguments args(UnitRowsGrad::kName);
  UnitRowsGrad a;
  a.x = args.input("x", x, Layout::kTokens);
  a.x_scale = args.input("x_scale", x_scale, Layout::kCodes);
  a.scale = args.input("scale", scale, Layout::kCodes);
  a.y_grad = args.input("y_grad", y_grad, Layout::kTokens);
  Tensor x_grad = empty_tokens(x, a.x.batch, a.x.rows, a.x.heads, a.x.cols, dtype);
  a.x_grad = args.output("x_grad", x_grad, Layout::kTokens);
  run<cpu::unit_rows_grad, cuda::unit_rows_grad>(a, x);
  return x_grad;
}

void unit_rows_grad_(const Tensor& x, const std::optional<Tensor>& x_scale, const Tensor& scale,
                     const Tensor& y_grad) {
  Arguments args(UnitRowsGrad::kName);
  UnitRowsGrad a;
  a.x = args.input("x", x, Layout::kTokens);
  a.x_scale = args.input("x_scale", x_scale, Layout::kCodes);
  a.scale = args.input("scale", scale, Layout::kCodes);
  a.x_grad = args.output("y_grad", y_grad, Layout::kTokens);
  a.y_grad = a.x_grad;
  run<cpu::unit_rows_grad, cuda::unit_rows_grad>(a, x);
}

}  // namespace yoso
