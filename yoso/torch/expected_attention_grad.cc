// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/expected_attention_grad.h"

#include <tuple>

#include "yoso/torch/arguments.h"
#include "yoso/torch/operators.h"
#include "yoso/torch/runner.h"

namespace yoso {

std::tuple<Tensor, Tensor, Tensor> expected_attention_grad(
    const Tensor& queries, const Tensor& keys, const std::optional<Tensor>& query_scale,
    const std::optional<Tensor>& key_scale, const Tensor& values, const Tensor& out_grad,
    double code_bits, std::string_view gradient, const std::optional<Tensor>& query_mask,
    const std::optional<Tensor>& key_mask, const std::optional<Tensor>& query_offsets,
    const std::optional<Tensor>& key_offsets, std::optional<int64_t> longest) {
  Arguments args(ExpectedAttentionGrad::kName);
  ExpectedAttentionGrad a;
  a.queries = args.input("queries", queries, Layout::kTokens);
  a.keys = args.input("keys", keys, Layout::kTokens);
  a.query_scale = args.input("query_scale", query_scale, Layout::kCodes);
  a.key_scale = args.input("key_scale", key_scale, Layout::kCodes);
  a.values = args.input("values", values, Layout::kTokens);
  a.out_grad = args.input("out_grad", out_grad, Layout::kTokens);
  a.code_bits = code_bits;
  a.gradient = parse_gradient(ExpectedAttentionGrad::kName, gradient);
  const ConstArray &q = a.queries, &k = a.keys, &v = a.values;
  const ScalarType type = accumulation_type(queries);
  Tensor query_grad = empty_tokens(queries, q.batch, q.rows, q.heads, q.cols, type);
  Tensor key_grad = empty_tokens(keys, k.batch, k.rows, k.heads, k.cols, type);
  Tensor value_grad = empty_tokens(values, v.batch, v.rows, v.heads, v.cols, values.scalar_type());
  a.query_grad = args.output("query_grad", query_grad, Layout::kTokens);
  a.key_grad = args.output("key_grad", key_grad, Layout::kTokens);
  a.value_grad = args.output("value_grad", value_grad, Layout::kTokens);
  a.query_rows = args.rows("query", query_mask, query_offsets, longest, q);
  a.key_rows = args.rows("key", key_mask, key_offsets, longest, k);
  run<cpu::expected_attention_grad, cuda::expected_attention_grad>(a, queries);
  return {query_grad, key_grad, value_grad};
}

}  // namespace yoso
