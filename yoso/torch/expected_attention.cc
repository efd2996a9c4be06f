// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/expected_attention.h"

#include "yoso/torch/arguments.h"
#include "yoso/torch/operators.h"
#include "yoso/torch/runner.h"

namespace yoso {

Tensor expected_attention(const Tensor& queries, const Tensor& keys,
                          const std::optional<Tensor>& query_scale,
                          const std::optional<Tensor>& key_scale, const Tensor& values,
                          double code_bits, const std::optional<Tensor>& query_mask,
                          const std::optional<Tensor>& key_mask,
                          const std::optional<Tensor>& query_offsets,
                          const std::optional<Tensor>& key_offsets, std::optional<ScalarType> dtype,
                          std::optional<int64_t> longest) {
  Arguments args(ExpectedAttention::kName);
  ExpectedAttention a;
  a.queries = args.input("queries", queries, Layout::kTokens);
  a.keys = args.input("keys", keys, Layout::kTokens);
  a.query_scale = args.input("query_scale", query_scale, Layout::kCodes);
  a.key_scale = args.input("key_scale", key_scale, Layout::kCodes);
  a.values = args.input("values", values, Layout::kTokens);
  a.code_bits = code_bits;
  Tensor out = empty_tokens(values, a.queries.batch, a.queries.rows, a.queries.heads, a.values.cols,
                            dtype.value_or(values.scalar_type()));
  a.out = args.output("out", out, Layout::kTokens);
  a.query_rows = args.rows("query", query_mask, query_offsets, longest, a.queries);
  a.key_rows = args.rows("key", key_mask, key_offsets, longest, a.keys);
  run<cpu::expected_attention, cuda::expected_attention>(a, queries);
  return out;
}

}  // namespace yoso
