// The arguments of one call of yoso::attention or of its backward: checked, and the mode chosen.
//
// Queries and keys are raw rows: they are normalised inside, and gradients are those of raw rows.
// The backward makes the same choices from the same arguments, so nothing but tensors is kept.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/torch/operators.h"
#include "yoso/torch/options.h"

namespace yoso {

struct AttentionCall {
  static constexpr const char* kName = "yoso_attention";

  Tensor query, key, value;  // [B, N, H, D] or [total, H, D], whatever the layout of the caller
  const OptionalTensor &query_mask, &key_mask, &query_offsets, &key_offsets;
  const OptionalTensor& seed;
  YosoOptions options;
  bool heads_first;  // the caller's rows are [B, H, N, D]
  std::optional<int64_t> longest;

  // Options as the operators take them; options.seed and options.projection are not set.
  AttentionCall(const Tensor& query, const Tensor& key, const Tensor& value,
                const OptionalTensor& query_mask, const OptionalTensor& key_mask,
                const OptionalTensor& query_offsets, const OptionalTensor& key_offsets,
                const OptionalTensor& seed, int64_t num_hashes, double code_bits,
                std::string_view mode, std::string_view gradient,
                std::optional<int64_t> backward_hashes, bool heads_first,
                std::optional<int64_t> longest);

  void check() const;  // throws Error: what, got, expected

  // kAuto may sample: then there are codes, whether or not it does. kExpected never does.
  bool may_sample() const;
  // Never kAuto.
  Mode mode() const;
  Seed seed_value() const;

  // From the caller's layout to ours, or back.
  Tensor in_layout(const Tensor& rows) const;

  // What sums that are normalised, and gradients on their way back through that, are kept in.
  ScalarType intermediate_type() const;
};

}  // namespace yoso
