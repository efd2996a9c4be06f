// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/longformer_attention.h"

#include <algorithm>

#include "yoso/core/check.h"
#include "yoso/nn/heads.h"

namespace yoso::nn {
namespace {

using at::Tensor;

// Tokens in blocks of `size`, at most half a window, so that a block and its two neighbours hold
// the windows of its tokens.
struct Blocks {
  Blocks(int64_t tokens, int64_t most)
      : size(std::min(tokens, most)),
        count((tokens + size - 1) / size),
        padding(count * size - tokens) {}

  int64_t size, count, padding;

  // x [B, H, N, D] -> [B, H, count, size, D]
  Tensor own(const Tensor& x) const {
    return at::constant_pad_nd(x, {0, 0, 0, padding}).unflatten(2, {count, size});
  }
  // x [B, H, N, D] with a block more on each side, and what is left of the last one.
  Tensor padded(const Tensor& x) const {
    return at::constant_pad_nd(x, {0, 0, size, size + padding});
  }
  // Of padded(x): [B, H, count, 3 size, D]
  Tensor around(const Tensor& x) const { return x.unfold(2, 3 * size, size).transpose(-2, -1); }
};

// out [B, H, N, D] with rows of `first` tokens replaced by full attention.
Tensor with_global_rows(const Tensor& out, const Heads& in, int64_t first) {
  if (first == 0) return out;
  const Tensor full = at::scaled_dot_product_attention(in.query.narrow(2, 0, first), in.key,
                                                       in.value, in.visible_keys());
  return at::cat({full.to(out.scalar_type()), out.narrow(2, first, out.size(2) - first)}, 2);
}

}  // namespace

LongformerAttention::LongformerAttention(const AttentionConfig& config)
    : options_(config.longformer) {
  if (options_.window < 2 || options_.window % 2 != 0) {
    fail("attention.longformer.window is ", options_.window, ", expected an even number from 2");
  }
  if (options_.global_tokens < 0) {
    fail("attention.longformer.global_tokens is ", options_.global_tokens, ", expected at least 0");
  }
}

Tensor LongformerAttention::forward(const Tensor& query, const Tensor& key, const Tensor& value,
                                    const Tensor& mask) {
  if (value.numel() == 0) return value;
  const Heads in(query, key, value, mask);
  const int64_t tokens = value.size(1), half = options_.window / 2;
  const int64_t first = std::min(options_.global_tokens, tokens);
  const Blocks blocks(tokens, half);
  const int64_t size = blocks.size;

  const auto columns = at::TensorOptions(value.device()).dtype(at::kLong);
  const Tensor own = at::arange(size, columns).unsqueeze(1);
  const Tensor around = at::arange(3 * size, columns) - size;
  const Tensor near = at::constant_pad_nd((around - own).abs() <= half, {0, first}, 1);

  // Of the window what is real and not global, and the global tokens; [B * count, H, *].
  const Tensor is_global = at::arange(tokens, columns).unsqueeze(-1) < first;
  const Tensor local = in.real_rows().logical_and(is_global.logical_not());
  const auto seen = [&](const Tensor& window, const Tensor& all) {
    const Tensor everywhere =
        all.narrow(2, 0, first).unsqueeze(2).expand({-1, -1, blocks.count, -1, -1});
    return at::cat({blocks.around(window).transpose(1, 2), everywhere.transpose(1, 2)}, 3)
        .flatten(0, 1);
  };
  const Tensor keys = seen(hide_keys(blocks.padded(in.key), blocks.padded(local)),
                           hide_keys(in.key, in.real_rows()));
  const Tensor values = seen(blocks.padded(in.value), in.value);
  const Tensor queries = blocks.own(with_column(in.query, at::ones_like(in.real_rows())))
                             .transpose(1, 2)
                             .flatten(0, 1);
  const Tensor out = at::scaled_dot_product_attention(queries, keys, values, near, /*dropout_p=*/0,
                                                      /*is_causal=*/false, in.scale());
  const Tensor rows =
      out.unflatten(0, {-1, blocks.count}).transpose(1, 2).flatten(2, 3).narrow(2, 0, tokens);
  return with_global_rows(rows, in, first).transpose(1, 2);
}

}  // namespace yoso::nn
