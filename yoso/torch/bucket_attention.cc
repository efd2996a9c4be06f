// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/bucket_attention.h"

#include "yoso/torch/arguments.h"
#include "yoso/torch/operators.h"
#include "yoso/torch/runner.h"

namespace yoso {

Tensor bucket_attention(const Tensor& query_codes, const Tensor& key_codes, const Tensor& values,
                        int64_t code_bits, const std::optional<Tensor>& query_mask,
                        const std::optional<Tensor>& key_mask,
                        const std::optional<Tensor>& query_offsets,
                        const std::optional<Tensor>& key_offsets, std::optional<ScalarType> dtype,
                        std::optional<int64_t> longest) {
  Arguments args(BucketAttention::kName);
  BucketAttention a;
  a.query_codes = args.input("query_codes", query_codes, Layout::kCodes);
  a.key_codes = args.input("key_codes", key_codes, Layout::kCodes);
  a.values = args.input("values", values, Layout::kTokens);
  a.code_bits = code_bits;
  Tensor out = empty_tokens(values, a.query_codes.batch, a.query_codes.cols, a.query_codes.heads,
                            a.values.cols, dtype.value_or(values.scalar_type()));
  a.out = args.output("out", out, Layout::kTokens);
  a.query_rows = args.rows("query", query_mask, query_offsets, longest, a.out);
  a.key_rows = args.rows("key", key_mask, key_offsets, longest, a.values);
  run<cpu::bucket_attention, cuda::bucket_attention>(a, values);
  return out;
}

}  // namespace yoso
