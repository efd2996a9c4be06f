// The operators as functions on tensors of the stable ABI, on any device that they know. The first
// ones are registered (yoso/torch/operators.cc says what they take and give), the last ones serve
// attention only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string_view>
#include <tuple>

#include "yoso/ops/hash.h"

namespace yoso {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

Tensor hash(const Tensor& x, int64_t num_hashes, int64_t code_bits, int64_t seed,
            std::string_view projection, std::optional<int64_t> projection_heads);

Tensor bucket_attention(const Tensor& query_codes, const Tensor& key_codes, const Tensor& values,
                        int64_t code_bits, const OptionalTensor& query_mask,
                        const OptionalTensor& key_mask, const OptionalTensor& query_offsets,
                        const OptionalTensor& key_offsets, std::optional<ScalarType> dtype,
                        std::optional<int64_t> longest);

std::tuple<Tensor, Tensor> bucket_attention_grad(
    const Tensor& query_codes, const Tensor& key_codes, const Tensor& queries, const Tensor& keys,
    const OptionalTensor& query_scale, const OptionalTensor& key_scale, const Tensor& values,
    const Tensor& out_grad, int64_t code_bits, std::string_view gradient,
    const OptionalTensor& query_mask, const OptionalTensor& key_mask,
    const OptionalTensor& query_offsets, const OptionalTensor& key_offsets,
    std::optional<int64_t> longest);

Tensor expected_attention(const Tensor& queries, const Tensor& keys,
                          const OptionalTensor& query_scale, const OptionalTensor& key_scale,
                          const Tensor& values, double code_bits, const OptionalTensor& query_mask,
                          const OptionalTensor& key_mask, const OptionalTensor& query_offsets,
                          const OptionalTensor& key_offsets, std::optional<ScalarType> dtype,
                          std::optional<int64_t> longest);

std::tuple<Tensor, Tensor, Tensor> expected_attention_grad(
    const Tensor& queries, const Tensor& keys, const OptionalTensor& query_scale,
    const OptionalTensor& key_scale, const Tensor& values, const Tensor& out_grad, double code_bits,
    std::string_view gradient, const OptionalTensor& query_mask, const OptionalTensor& key_mask,
    const OptionalTensor& query_offsets, const OptionalTensor& key_offsets,
    std::optional<int64_t> longest);

std::tuple<Tensor, Tensor, Tensor, Tensor> attention(
    const Tensor& query, const Tensor& key, const Tensor& value, const OptionalTensor& query_mask,
    const OptionalTensor& key_mask, const OptionalTensor& query_offsets,
    const OptionalTensor& key_offsets, const OptionalTensor& seed, int64_t num_hashes,
    double code_bits, std::string_view mode, std::string_view gradient, std::string_view projection,
    bool normalize_output, std::optional<int64_t> backward_hashes, bool heads_first,
    std::optional<int64_t> longest);

std::tuple<Tensor, Tensor, Tensor> attention_backward(
    const Tensor& out_grad, const Tensor& query, const Tensor& key, const Tensor& value,
    const OptionalTensor& out, const OptionalTensor& out_scale, const Tensor& query_codes,
    const Tensor& key_codes, const OptionalTensor& query_mask, const OptionalTensor& key_mask,
    const OptionalTensor& query_offsets, const OptionalTensor& key_offsets,
    const OptionalTensor& seed, int64_t num_hashes, double code_bits, std::string_view mode,
    std::string_view gradient, std::optional<int64_t> backward_hashes, bool heads_first,
    bool need_query_or_key, bool need_value, std::optional<int64_t> longest);

std::tuple<Tensor, Tensor, Tensor> residual_norm(const Tensor& x, const OptionalTensor& branch,
                                                 const OptionalTensor& bias,
                                                 const OptionalTensor& seed, double dropout,
                                                 double epsilon, ScalarType dtype);
std::tuple<Tensor, Tensor, Tensor> residual_norm_backward(
    const Tensor& norm, const Tensor& scale, const OptionalTensor& sum_grad,
    const Tensor& norm_grad, const OptionalTensor& seed, double dropout, ScalarType x_dtype,
    std::optional<ScalarType> branch_dtype, bool need_bias);
Tensor column_sums(const Tensor& x);

// hash with a seed that may stand on the GPU of x.
Tensor hash_by(const Tensor& x, int64_t num_hashes, int64_t code_bits, const Seed& seed,
               std::string_view projection, std::optional<int64_t> projection_heads);

// yoso/ops/unit_rows.h on x [B, N, H, W]: the unit rows, of the type `dtype`, and their scales.
std::tuple<Tensor, Tensor> unit_rows(const Tensor& x, ScalarType dtype);
Tensor unit_rows_(const Tensor& x);  // x becomes the unit rows; gives the scales
Tensor row_scales(const Tensor& x);  // only the scales
// x_scale: absent when x holds the unit rows themselves.
Tensor unit_rows_grad(const Tensor& x, const OptionalTensor& x_scale, const Tensor& scale,
                      const Tensor& y_grad, ScalarType dtype);
void unit_rows_grad_(const Tensor& x, const OptionalTensor& x_scale, const Tensor& scale,
                     const Tensor& y_grad);  // y_grad becomes the gradient of x

// bucket_attention_grad, or with `of_rows` the gradients of queries and keys themselves, of their
// type; with `need_value` that of the values as well, else without elements.
std::tuple<Tensor, Tensor, Tensor> sampled_gradients(
    const Tensor& query_codes, const Tensor& key_codes, const Tensor& queries, const Tensor& keys,
    const OptionalTensor& query_scale, const OptionalTensor& key_scale, const Tensor& values,
    const Tensor& out_grad, int64_t code_bits, std::string_view gradient,
    const OptionalTensor& query_mask, const OptionalTensor& key_mask,
    const OptionalTensor& query_offsets, const OptionalTensor& key_offsets,
    std::optional<int64_t> longest, bool of_rows, bool need_value);

}  // namespace yoso
