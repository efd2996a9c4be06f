// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/unit_rows.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "yoso/torch/arguments.h"
#include "yoso/torch/runner.h"

namespace yoso {
namespace {

Tensor empty_scale(const Tensor& like, const ConstArray& x) {
  return empty_codes(like, x.batch, x.heads, 1, x.rows, accumulation_type(like));
}

template <auto kRun>
std::tuple<Tensor, Tensor> unit_rows(const Tensor& x, std::optional<ScalarType> dtype) {
  Arguments args(UnitRows::kName);
  UnitRows a;
  a.x = args.input("x", x, Layout::kTokens);
  Tensor y =
      empty_tokens(x, a.x.batch, a.x.rows, a.x.heads, a.x.cols, dtype.value_or(x.scalar_type()));
  Tensor scale = empty_scale(x, a.x);
  a.y = args.output("y", y, Layout::kTokens);
  a.scale = args.output("scale", scale, Layout::kCodes);
  Runner<kRun> run(x);
  run(a);
  return {y, scale};
}

template <auto kRun>
Tensor unit_rows_in_place(const Tensor& x) {
  Arguments args(UnitRows::kName);
  const Array y = args.output("x", x, Layout::kTokens);
  Tensor scale = empty_scale(x, y);
  Runner<kRun> run(x);
  run({.x = y, .y = y, .scale = args.output("scale", scale, Layout::kCodes)});
  return scale;
}

template <auto kRun>
Tensor row_scales(const Tensor& x) {
  Arguments args(UnitRows::kName);
  const ConstArray a = args.input("x", x, Layout::kTokens);
  Tensor scale = empty_scale(x, a);
  Runner<kRun> run(x);
  run({.x = a, .y = {}, .scale = args.output("scale", scale, Layout::kCodes)});
  return scale;
}

template <auto kRun>
Tensor unit_rows_grad(const Tensor& x, const std::optional<Tensor>& x_scale, const Tensor& scale,
                      const Tensor& y_grad, std::optional<ScalarType> dtype) {
  Arguments args(UnitRowsGrad::kName);
  UnitRowsGrad a;
  a.x = args.input("x", x, Layout::kTokens);
  a.x_scale = args.input("x_scale", x_scale, Layout::kCodes);
  a.scale = args.input("scale", scale, Layout::kCodes);
  a.y_grad = args.input("y_grad", y_grad, Layout::kTokens);
  Tensor x_grad = empty_tokens(x, a.x.batch, a.x.rows, a.x.heads, a.x.cols,
                               dtype.value_or(accumulation_type(x)));
  a.x_grad = args.output("x_grad", x_grad, Layout::kTokens);
  Runner<kRun> run(x);
  run(a);
  return x_grad;
}

template <auto kRun>
void unit_rows_grad_in_place(const Tensor& x, const std::optional<Tensor>& x_scale,
                             const Tensor& scale, const Tensor& y_grad) {
  Arguments args(UnitRowsGrad::kName);
  UnitRowsGrad a;
  a.x = args.input("x", x, Layout::kTokens);
  a.x_scale = args.input("x_scale", x_scale, Layout::kCodes);
  a.scale = args.input("scale", scale, Layout::kCodes);
  a.x_grad = args.output("y_grad", y_grad, Layout::kTokens);
  a.y_grad = a.x_grad;
  Runner<kRun> run(x);
  run(a);
}

}  // namespace
}  // namespace yoso

STABLE_TORCH_LIBRARY_IMPL(yoso, CPU, m) {
  using namespace yoso;
  m.impl("unit_rows", TORCH_BOX(&unit_rows<cpu::unit_rows>));
  m.impl("unit_rows_", TORCH_BOX(&unit_rows_in_place<cpu::unit_rows>));
  m.impl("row_scales", TORCH_BOX(&row_scales<cpu::unit_rows>));
  m.impl("unit_rows_grad", TORCH_BOX(&unit_rows_grad<cpu::unit_rows_grad>));
  m.impl("unit_rows_grad_", TORCH_BOX(&unit_rows_grad_in_place<cpu::unit_rows_grad>));
}
STABLE_TORCH_LIBRARY_IMPL(yoso, CUDA, m) {
  using namespace yoso;
  m.impl("unit_rows", TORCH_BOX(&unit_rows<cuda::unit_rows>));
  m.impl("unit_rows_", TORCH_BOX(&unit_rows_in_place<cuda::unit_rows>));
  m.impl("row_scales", TORCH_BOX(&row_scales<cuda::unit_rows>));
  m.impl("unit_rows_grad", TORCH_BOX(&unit_rows_grad<cuda::unit_rows_grad>));
  m.impl("unit_rows_grad_", TORCH_BOX(&unit_rows_grad_in_place<cuda::unit_rows_grad>));
}
