// yoso::attention: hash and collide, or the expectation, then unit output rows.
// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/stable/ops.h>

#include "yoso/torch/arguments.h"
#include "yoso/torch/attention_call.h"

namespace yoso {
namespace {

// Codes that nobody reads, of the shape that the sampled mode would give: the shape of results must
// not depend on which mode kAuto takes (torch.compile). Zeros, so that results are repeatable.
Tensor unread_codes(const AttentionCall& a, const Tensor& x) {
  if (!a.may_sample()) return no_elements(x, ScalarType::Byte);
  const int64_t rank = x.dim();
  Tensor codes =
      empty_codes(x, rank == 4 ? x.size(0) : 1, x.size(rank - 2), a.options.num_hashes,
                  x.size(rank - 3), code_type(static_cast<int64_t>(a.options.code_bits)));
  return torch::stable::zero_(codes);
}

struct Sums {
  Tensor out, query_codes, key_codes;  // rows [B, N, H, V] before they are normalised
};

Sums sampled(const AttentionCall& a, std::string_view projection, ScalarType type) {
  const int64_t bits = static_cast<int64_t>(a.options.code_bits);
  const auto codes = [&](const Tensor& x) {
    return hash_by(x, a.options.num_hashes, bits, a.seed_value(), projection,
                   a.key.size(a.key.dim() - 2));
  };
  Sums sums{.query_codes = codes(a.query), .key_codes = codes(a.key)};
  sums.out = bucket_attention(sums.query_codes, sums.key_codes, a.value, bits, a.query_mask,
                              a.key_mask, a.query_offsets, a.key_offsets, type, a.longest);
  return sums;
}

Sums expected(const AttentionCall& a, ScalarType type) {
  return {.out = expected_attention(a.query, a.key, row_scales(a.query), row_scales(a.key), a.value,
                                    a.options.code_bits, a.query_mask, a.key_mask, a.query_offsets,
                                    a.key_offsets, type, a.longest),
          .query_codes = unread_codes(a, a.query),
          .key_codes = unread_codes(a, a.key)};
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor> attention(
    const Tensor& query, const Tensor& key, const Tensor& value, const OptionalTensor& query_mask,
    const OptionalTensor& key_mask, const OptionalTensor& query_offsets,
    const OptionalTensor& key_offsets, const OptionalTensor& seed, int64_t num_hashes,
    double code_bits, std::string_view mode, std::string_view gradient, std::string_view projection,
    bool normalize_output, std::optional<int64_t> backward_hashes, bool heads_first,
    std::optional<int64_t> longest) {
  const AttentionCall a(query, key, value, query_mask, key_mask, query_offsets, key_offsets, seed,
                        num_hashes, code_bits, mode, gradient, backward_hashes, heads_first,
                        longest);
  a.check();
  parse_projection(AttentionCall::kName, projection);  // also where nothing is sampled
  const ScalarType type = normalize_output ? a.intermediate_type() : value.scalar_type();
  Sums sums = a.mode() == Mode::kSampled ? sampled(a, projection, type) : expected(a, type);
  Tensor scale = no_elements(value, accumulation_type(value));
  if (normalize_output && type == value.scalar_type()) {
    scale = unit_rows_(sums.out);
  } else if (normalize_output) {
    std::tie(sums.out, scale) = unit_rows(sums.out, value.scalar_type());
  }
  return {a.in_layout(sums.out), scale, sums.query_codes, sums.key_codes};
}

}  // namespace yoso
