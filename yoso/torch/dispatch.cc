// SPDX-License-Identifier: Apache-2.0
#include "yoso/torch/dispatch.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <stdexcept>
#include <string_view>

namespace yoso::ops {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

OptionalTensor optional(const Tensor& tensor) {
  return tensor.defined() ? OptionalTensor(tensor) : std::nullopt;
}

// Calls the operator; what it refuses (a std::runtime_error on the stable ABI) becomes a
// c10::Error with the same words. What does not fit into GPU memory is a c10::OutOfMemoryError, as
// in torch's own operators.
template <class Signature, class... Args>
auto call(const c10::TypedOperatorHandle<Signature>& op, Args&&... args) {
  try {
    return op.call(std::forward<Args>(args)...);
  } catch (const c10::Error&) {
    throw;
  } catch (const std::runtime_error& error) {
    const bool fits = !std::string_view(error.what()).starts_with("GPU memory: ");
    TORCH_CHECK_WITH(OutOfMemoryError, fits, error.what());
    TORCH_CHECK(false, error.what());
  }
}

template <class Signature>
c10::TypedOperatorHandle<Signature> find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace

Tensor hash(const Tensor& x, int64_t num_hashes, int64_t code_bits, int64_t seed,
            Projection projection, int64_t projection_heads) {
  static const auto op = find<Tensor(const Tensor&, int64_t, int64_t, int64_t, c10::string_view,
                                     std::optional<int64_t>)>("yoso::hash");
  return call(op, x, num_hashes, code_bits, seed, name_of(projection), projection_heads);
}

Tensor bucket_attention(const Tensor& query_codes, const Tensor& key_codes, const Tensor& values,
                        int64_t code_bits, const Sides& sides, at::ScalarType dtype) {
  static const auto op =
      find<Tensor(const Tensor&, const Tensor&, const Tensor&, int64_t, const OptionalTensor&,
                  const OptionalTensor&, const OptionalTensor&, const OptionalTensor&,
                  std::optional<at::ScalarType>, std::optional<int64_t>)>("yoso::bucket_attention");
  return call(op, query_codes, key_codes, values, code_bits, optional(sides.query_mask),
              optional(sides.key_mask), optional(sides.query_offsets), optional(sides.key_offsets),
              dtype, sides.longest);
}

std::tuple<Tensor, Tensor, Tensor> expected_attention_grad(
    const Tensor& queries, const Tensor& keys, const Tensor& query_scale, const Tensor& key_scale,
    const Tensor& values, const Tensor& out_grad, double code_bits, Gradient gradient,
    const Sides& sides) {
  static const auto op = find<std::tuple<Tensor, Tensor, Tensor>(
      const Tensor&, const Tensor&, const OptionalTensor&, const OptionalTensor&, const Tensor&,
      const Tensor&, double, c10::string_view, const OptionalTensor&, const OptionalTensor&,
      const OptionalTensor&, const OptionalTensor&, std::optional<int64_t>)>(
      "yoso::expected_attention_grad");
  return call(op, queries, keys, optional(query_scale), optional(key_scale), values, out_grad,
              code_bits, name_of(gradient), optional(sides.query_mask), optional(sides.key_mask),
              optional(sides.query_offsets), optional(sides.key_offsets), sides.longest);
}

ResidualNorm residual_norm(const Tensor& x, const Tensor& branch, const Tensor& bias,
                           const Tensor& seed, double dropout, double epsilon,
                           at::ScalarType dtype) {
  static const auto op = find<std::tuple<Tensor, Tensor, Tensor>(
      const Tensor&, const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, double,
      double, at::ScalarType)>("yoso::residual_norm");
  const auto [sum, norm, scale] =
      call(op, x, optional(branch), optional(bias), optional(seed), dropout, epsilon, dtype);
  return {sum, norm, scale};
}

ResidualNormGrad residual_norm_backward(const Tensor& norm, const Tensor& scale,
                                        const Tensor& sum_grad, const Tensor& norm_grad,
                                        const Tensor& seed, double dropout, at::ScalarType x_dtype,
                                        std::optional<at::ScalarType> branch_dtype,
                                        bool need_bias) {
  static const auto op = find<std::tuple<Tensor, Tensor, Tensor>(
      const Tensor&, const Tensor&, const OptionalTensor&, const Tensor&, const OptionalTensor&,
      double, at::ScalarType, std::optional<at::ScalarType>, bool)>("yoso::residual_norm_backward");
  const auto [x_grad, branch_grad, bias_grad] =
      call(op, norm, scale, optional(sum_grad), norm_grad, optional(seed), dropout, x_dtype,
           branch_dtype, need_bias);
  return {x_grad, branch_grad, bias_grad};
}

Tensor column_sums(const Tensor& x) {
  static const auto op = find<Tensor(const Tensor&)>("yoso::column_sums");
  return call(op, x);
}

Attention attention(const Tensor& query, const Tensor& key, const Tensor& value, const Sides& sides,
                    const Tensor& seed, const YosoOptions& options) {
  static const auto op = find<std::tuple<Tensor, Tensor, Tensor, Tensor>(
      const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&, const OptionalTensor&,
      const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, int64_t, double,
      c10::string_view, c10::string_view, c10::string_view, bool, std::optional<int64_t>, bool,
      std::optional<int64_t>)>("yoso::attention");
  const auto [out, out_scale, query_codes, key_codes] =
      call(op, query, key, value, optional(sides.query_mask), optional(sides.key_mask),
           optional(sides.query_offsets), optional(sides.key_offsets), optional(seed),
           options.num_hashes, options.code_bits, name_of(options.mode), name_of(options.gradient),
           name_of(options.projection), options.normalize_output, options.backward_hashes,
           /*heads_first=*/false, sides.longest);
  return {out, out_scale, query_codes, key_codes};
}

std::tuple<Tensor, Tensor, Tensor> attention_backward(const Tensor& out_grad, const Tensor& query,
                                                      const Tensor& key, const Tensor& value,
                                                      const Attention& forward, const Sides& sides,
                                                      const Tensor& seed,
                                                      const YosoOptions& options,
                                                      bool need_query_or_key, bool need_value) {
  static const auto op = find<std::tuple<Tensor, Tensor, Tensor>(
      const Tensor&, const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&,
      const OptionalTensor&, const Tensor&, const Tensor&, const OptionalTensor&,
      const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, const OptionalTensor&,
      int64_t, double, c10::string_view, c10::string_view, std::optional<int64_t>, bool, bool, bool,
      std::optional<int64_t>)>("yoso::attention_backward");
  const bool normalized = options.normalize_output;
  return call(op, out_grad, query, key, value, normalized ? optional(forward.out) : std::nullopt,
              normalized ? optional(forward.out_scale) : std::nullopt, forward.query_codes,
              forward.key_codes, optional(sides.query_mask), optional(sides.key_mask),
              optional(sides.query_offsets), optional(sides.key_offsets), optional(seed),
              options.num_hashes, options.code_bits, name_of(options.mode),
              name_of(options.gradient), options.backward_hashes, /*heads_first=*/false,
              need_query_or_key, need_value, sides.longest);
}

}  // namespace yoso::ops
