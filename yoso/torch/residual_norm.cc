// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/residual_norm.h"

#include <algorithm>
#include <tuple>

#include "yoso/core/check.h"
#include "yoso/torch/arguments.h"
#include "yoso/torch/operators.h"
#include "yoso/torch/runner.h"

namespace yoso {
namespace {

// `rate` is rounded, but not to 1.
DropoutMask mask_of(const char* op, const Tensor& like, const OptionalTensor& seed, double rate) {
  if (!(rate >= 0 && rate < 1))
    fail(op, ": dropout is ", rate, ", expected at least 0 and below 1");
  DropoutMask mask;
  mask.rate = DropoutRate::of(rate);
  mask.rate.dropped = std::min(mask.rate.dropped, DropoutRate::kWhole - 1);
  if (mask.rate.dropped == 0) return mask;
  if (!seed) fail(op, ": seed is absent, expected one where something is dropped");
  if (!same_device(*seed, like)) {
    fail(op, ": seed is on ", device_text(*seed), ", expected ", device_text(like));
  }
  if (seed->scalar_type() != ScalarType::Long || seed->numel() != 1) {
    fail(op, ": seed is ", shape_text(*seed), ", expected one number of int64");
  }
  mask.seed = seed->const_data_ptr<int64_t>();
  return mask;
}

Tensor empty_like(const Tensor& like, const ConstArray& x, ScalarType dtype) {
  return empty_tokens(like, x.batch, x.rows, x.heads, x.cols, dtype);
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> residual_norm(const Tensor& x, const OptionalTensor& branch,
                                                 const OptionalTensor& bias,
                                                 const OptionalTensor& seed, double dropout,
                                                 double epsilon, ScalarType dtype) {
  Arguments args(ResidualNorm::kName);
  ResidualNorm a;
  a.x = args.input("x", x, Layout::kTokens);
  a.branch = args.input("branch", branch, Layout::kTokens);
  a.bias = args.input("bias", bias, Layout::kTokens);
  a.dropout = mask_of(ResidualNorm::kName, x, seed, dropout);
  a.epsilon = epsilon;
  Tensor sum = no_elements(x, x.scalar_type());
  if (branch || bias) {
    sum = empty_like(x, a.x, x.scalar_type());
    a.sum = args.output("sum", sum, Layout::kTokens);
  }
  Tensor norm = empty_like(x, a.x, dtype);
  Tensor scale = empty_codes(x, a.x.batch, a.x.heads, 1, a.x.rows, accumulation_type(x));
  a.norm = args.output("norm", norm, Layout::kTokens);
  a.scale = args.output("scale", scale, Layout::kCodes);
  run<cpu::residual_norm, cuda::residual_norm>(a, x);
  return {sum, norm, scale};
}

std::tuple<Tensor, Tensor, Tensor> residual_norm_backward(
    const Tensor& norm, const Tensor& scale, const OptionalTensor& sum_grad,
    const Tensor& norm_grad, const OptionalTensor& seed, double dropout, ScalarType x_dtype,
    std::optional<ScalarType> branch_dtype, bool need_bias) {
  Arguments args(ResidualNormGrad::kName);
  ResidualNormGrad a;
  a.norm = args.input("norm", norm, Layout::kTokens);
  a.scale = args.input("scale", scale, Layout::kCodes);
  a.sum_grad = args.input("sum_grad", sum_grad, Layout::kTokens);
  a.norm_grad = args.input("norm_grad", norm_grad, Layout::kTokens);
  a.dropout = mask_of(ResidualNormGrad::kName, norm, seed, dropout);
  Tensor x_grad = empty_like(norm, a.norm, x_dtype);
  a.x_grad = args.output("x_grad", x_grad, Layout::kTokens);
  Tensor branch_grad = no_elements(norm, x_dtype), bias_grad = no_elements(norm, x_dtype);
  if (branch_dtype) {
    branch_grad = empty_like(norm, a.norm, *branch_dtype);
    a.branch_grad = args.output("branch_grad", branch_grad, Layout::kTokens);
  }
  if (need_bias) {
    bias_grad = empty_tokens(norm, 1, 1, 1, a.norm.cols, accumulation_type(norm));
    a.bias_grad = args.output("bias_grad", bias_grad, Layout::kTokens);
  }
  run<cpu::residual_norm_grad, cuda::residual_norm_grad>(a, norm);
  return {x_grad, branch_grad, bias_grad};
}

Tensor column_sums(const Tensor& x) {
  Arguments args(ColumnSums::kName);
  ColumnSums a{.x = args.input("x", x, Layout::kTokens), .out = {}};
  Tensor out = empty_tokens(x, 1, 1, 1, a.x.cols, accumulation_type(x));
  a.out = args.output("out", out, Layout::kTokens);
  run<cpu::column_sums, cuda::column_sums>(a, x);
  return out;
}

}  // namespace yoso
