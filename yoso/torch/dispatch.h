// The registered operators yoso::* for C++, called through torch's dispatcher. What each takes and
// gives stands in yoso/torch/operators.cc; an undefined tensor is None.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <tuple>

#include "yoso/torch/options.h"

namespace yoso::ops {

// Masks and offsets of both sides; undefined: none.
struct Sides {
  at::Tensor query_mask = {}, key_mask = {};
  at::Tensor query_offsets = {}, key_offsets = {};

  Sides swapped() const { return {key_mask, query_mask, key_offsets, query_offsets}; }
};

at::Tensor hash(const at::Tensor& x, int64_t num_hashes, int64_t code_bits, int64_t seed,
                Projection projection, int64_t projection_heads);

at::Tensor bucket_attention(const at::Tensor& query_codes, const at::Tensor& key_codes,
                            const at::Tensor& values, int64_t code_bits, const Sides& sides,
                            at::ScalarType dtype);

std::tuple<at::Tensor, at::Tensor> bucket_attention_grad(
    const at::Tensor& query_codes, const at::Tensor& key_codes, const at::Tensor& queries,
    const at::Tensor& keys, const at::Tensor& query_scale, const at::Tensor& key_scale,
    const at::Tensor& values, const at::Tensor& out_grad, int64_t code_bits, Gradient gradient,
    const Sides& sides);

at::Tensor expected_attention(const at::Tensor& queries, const at::Tensor& keys,
                              const at::Tensor& query_scale, const at::Tensor& key_scale,
                              const at::Tensor& values, double code_bits, const Sides& sides,
                              at::ScalarType dtype);

std::tuple<at::Tensor, at::Tensor, at::Tensor> expected_attention_grad(
    const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& query_scale,
    const at::Tensor& key_scale, const at::Tensor& values, const at::Tensor& out_grad,
    double code_bits, Gradient gradient, const Sides& sides);

std::tuple<at::Tensor, at::Tensor> unit_rows(const at::Tensor& x,
                                             at::ScalarType dtype);  // y, scale
at::Tensor unit_rows_(at::Tensor& x);                                // scale; x becomes y
at::Tensor row_scales(const at::Tensor& x);                          // scale

at::Tensor unit_rows_grad(const at::Tensor& x, const at::Tensor& x_scale, const at::Tensor& scale,
                          const at::Tensor& y_grad, at::ScalarType dtype);
void unit_rows_grad_(const at::Tensor& x, const at::Tensor& x_scale, const at::Tensor& scale,
                     at::Tensor& y_grad);  // y_grad becomes x_grad

}  // namespace yoso::ops
