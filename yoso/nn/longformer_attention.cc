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
    return at::constant_pad_nd(x, {0, 0, 0, padding})
        .view({x.size(0), x.size(1), count, size, x.size(3)});
  }
  // x [B, H, N, D] -> [B, H, count, D, 3 size]
  Tensor around(const Tensor& x) const {
    return at::constant_pad_nd(x, {0, 0, size, size + padding}).unfold(2, 3 * size, size);
  }
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

  // Keys of the window that are real and not global; those of the padding are neither.
  const Tensor position = at::arange(tokens, in.count.options());
  const Tensor local = in.real.logical_and(position >= first).unsqueeze(1).unsqueeze(-1);
  const Tensor own = at::arange(size, position.options()).unsqueeze(1);
  const Tensor around = at::arange(3 * size, position.options()) - size;
  const Tensor near = (around - own).abs() <= half;  // [size, 3 size]
  const Tensor allowed = at::cat(
      {blocks.around(local).logical_and(near), in.real.narrow(1, 0, first)
                                                   .unsqueeze(1)
                                                   .unsqueeze(1)
                                                   .unsqueeze(1)
                                                   .expand({-1, 1, blocks.count, size, -1})},
      -1);  // [B, 1, count, size, 3 size + first]
  // A row that may see nothing is padding: let it see anything, so that it is finite.
  const Tensor visible = allowed.logical_or(allowed.any(-1, /*keepdim=*/true).logical_not());

  // [B, H, count, *] -> [B * count, H, *]: one mask for all heads of a block.
  const auto by_block = [](const Tensor& x) { return x.transpose(1, 2).flatten(0, 1); };
  const auto seen = [&](const Tensor& x) {
    const Tensor everywhere =
        x.narrow(2, 0, first).unsqueeze(2).expand({-1, -1, blocks.count, -1, -1});
    return by_block(at::cat({blocks.around(x).transpose(-2, -1), everywhere}, 3));
  };
  const Tensor out = at::scaled_dot_product_attention(by_block(blocks.own(in.query)), seen(in.key),
                                                      seen(in.value), by_block(visible));
  const Tensor rows =
      out.unflatten(0, {-1, blocks.count}).transpose(1, 2).flatten(2, 3).narrow(2, 0, tokens);
  return with_global_rows(rows, in, first).transpose(1, 2);
}

}  // namespace yoso::nn
