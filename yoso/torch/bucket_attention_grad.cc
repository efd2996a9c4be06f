// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/bucket_attention_grad.h"

#include <tuple>

#include "yoso/torch/arguments.h"
#include "yoso/torch/operators.h"
#include "yoso/torch/runner.h"

namespace yoso {

std::tuple<Tensor, Tensor, Tensor> sampled_gradients(
    const Tensor& query_codes, const Tensor& key_codes, const Tensor& queries, const Tensor& keys,
    const std::optional<Tensor>& query_scale, const std::optional<Tensor>& key_scale,
    const Tensor& values, const Tensor& out_grad, int64_t code_bits, std::string_view gradient,
    const std::optional<Tensor>& query_mask, const std::optional<Tensor>& key_mask,
    const std::optional<Tensor>& query_offsets, const std::optional<Tensor>& key_offsets,
    std::optional<int64_t> longest, bool of_rows, bool need_value) {
  Arguments args(BucketAttentionGrad::kName);
  BucketAttentionGrad a;
  a.query_codes = args.input("query_codes", query_codes, Layout::kCodes);
  a.key_codes = args.input("key_codes", key_codes, Layout::kCodes);
  a.queries = args.input("queries", queries, Layout::kTokens);
  a.keys = args.input("keys", keys, Layout::kTokens);
  a.query_scale = args.input("query_scale", query_scale, Layout::kCodes);
  a.key_scale = args.input("key_scale", key_scale, Layout::kCodes);
  a.values = args.input("values", values, Layout::kTokens);
  a.out_grad = args.input("out_grad", out_grad, Layout::kTokens);
  a.code_bits = code_bits;
  a.gradient = parse_gradient(BucketAttentionGrad::kName, gradient);
  a.of_rows = of_rows;
  const ConstArray &q = a.queries, &k = a.keys;
  const ScalarType type = of_rows ? queries.scalar_type() : accumulation_type(queries);
  Tensor query_grad = empty_tokens(queries, q.batch, q.rows, q.heads, q.cols, type);
  Tensor key_grad = empty_tokens(keys, k.batch, k.rows, k.heads, k.cols, type);
  a.query_grad = args.output("query_grad", query_grad, Layout::kTokens);
  a.key_grad = args.output("key_grad", key_grad, Layout::kTokens);
  Tensor value_grad = no_elements(values, values.scalar_type());
  if (need_value) {
    value_grad =
        empty_tokens(values, k.batch, k.rows, k.heads, a.values.cols, values.scalar_type());
    a.value_grad = args.output("value_grad", value_grad, Layout::kTokens);
  }
  a.query_rows = args.rows("query", query_mask, query_offsets, longest, q);
  a.key_rows = args.rows("key", key_mask, key_offsets, longest, k);
  run<cpu::bucket_attention_grad, cuda::bucket_attention_grad>(a, queries);
  return {query_grad, key_grad, value_grad};
}

std::tuple<Tensor, Tensor> bucket_attention_grad(
    const Tensor& query_codes, const Tensor& key_codes, const Tensor& queries, const Tensor& keys,
    const std::optional<Tensor>& query_scale, const std::optional<Tensor>& key_scale,
    const Tensor& values, const Tensor& out_grad, int64_t code_bits, std::string_view gradient,
    const std::optional<Tensor>& query_mask, const std::optional<Tensor>& key_mask,
    const std::optional<Tensor>& query_offsets, const std::optional<Tensor>& key_offsets,
    std::optional<int64_t> longest) {
  const auto [query_grad, key_grad, none] = sampled_gradients(
      query_codes, key_codes, queries, keys, query_scale, key_scale, values, out_grad, code_bits,
      gradient, query_mask, key_mask, query_offsets, key_offsets, longest, /*of_rows=*/false,
      /*need_value=*/false);
  return {query_grad, key_grad};
}

}  // namespace yoso
