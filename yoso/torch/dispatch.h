// Registered operators yoso::* that C++ calls, through torch's dispatcher. What each takes and gives
// stands in yoso/torch/operators.cc; an undefined tensor is None.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <tuple>

#include "yoso/torch/options.h"

namespace yoso::ops {

// Masks and offsets of both sides; undefined: none. longest: with offsets on a GPU.
struct Sides {
  at::Tensor query_mask = {}, key_mask = {};
  at::Tensor query_offsets = {}, key_offsets = {};
  std::optional<int64_t> longest = {};
};

at::Tensor hash(const at::Tensor& x, int64_t num_hashes, int64_t code_bits, int64_t seed,
                Projection projection, int64_t projection_heads);

at::Tensor bucket_attention(const at::Tensor& query_codes, const at::Tensor& key_codes,
                            const at::Tensor& values, int64_t code_bits, const Sides& sides,
                            at::ScalarType dtype);

std::tuple<at::Tensor, at::Tensor, at::Tensor> expected_attention_grad(
    const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& query_scale,
    const at::Tensor& key_scale, const at::Tensor& values, const at::Tensor& out_grad,
    double code_bits, Gradient gradient, const Sides& sides);

// yoso/ops/residual_norm.h on rows [N, H, W]; bias [1, 1, W]. Undefined: absent.
struct ResidualNorm {
  at::Tensor sum, norm, scale;
};
ResidualNorm residual_norm(const at::Tensor& x, const at::Tensor& branch, const at::Tensor& bias,
                           const at::Tensor& seed, double dropout, double epsilon,
                           at::ScalarType dtype);
struct ResidualNormGrad {
  at::Tensor x, branch, bias;  // no elements: not asked for
};
ResidualNormGrad residual_norm_backward(const at::Tensor& norm, const at::Tensor& scale,
                                        const at::Tensor& sum_grad, const at::Tensor& norm_grad,
                                        const at::Tensor& seed, double dropout,
                                        at::ScalarType x_dtype,
                                        std::optional<at::ScalarType> branch_dtype, bool need_bias);
at::Tensor column_sums(const at::Tensor& x);

// What the forward of attention leaves to its backward, and its result.
struct Attention {
  at::Tensor out, out_scale, query_codes, key_codes;
};

// seed: one int64 on the CPU or the device of query, undefined where nothing is sampled. Of the
// options, seed is not read.
Attention attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                    const Sides& sides, const at::Tensor& seed, const YosoOptions& options);

// A gradient that is not needed has no elements.
std::tuple<at::Tensor, at::Tensor, at::Tensor> attention_backward(
    const at::Tensor& out_grad, const at::Tensor& query, const at::Tensor& key,
    const at::Tensor& value, const Attention& forward, const Sides& sides, const at::Tensor& seed,
    const YosoOptions& options, bool need_query_or_key, bool need_value);

}  // namespace yoso::ops
