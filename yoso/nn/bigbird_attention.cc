// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/bigbird_attention.h"

#include <algorithm>
#include <vector>

#include "yoso/core/check.h"
#include "yoso/nn/draws.h"
#include "yoso/nn/heads.h"

namespace yoso::nn {
namespace {

using at::Tensor;

// The blocks that each block attends to.
struct Pattern {
  Tensor blocks;  // [B, H, count, K] int64
  Tensor
      allowed;  // [B, H, count, K] bool: false where there is no such block, or it is twice there
};

// has_real [B, count]: blocks with a real token.
Pattern pattern_of(const BigbirdOptions& options, const Tensor& has_real, int64_t heads) {
  const int64_t batch = has_real.size(0), count = has_real.size(1);
  const int64_t reach = options.window_blocks / 2;
  const auto numbers = at::TensorOptions(has_real.device()).dtype(at::kLong);
  const Tensor row = at::arange(count, numbers).unsqueeze(1);     // [count, 1]
  const Tensor column = at::arange(count, numbers).unsqueeze(0);  // [1, count]
  const Tensor first = column.narrow(1, 0, std::min(options.global_blocks, count));
  const Tensor window = row + at::arange(-reach, reach + 1, numbers);  // [count, 2 reach + 1]

  std::vector<Tensor> draws;
  for (int64_t head = 0; head < heads; ++head)
    draws.push_back(
        Draws{options.seed, static_cast<uint32_t>(head), has_real.device()}.uniforms(count, count));
  const Tensor others = (column >= options.global_blocks).logical_and((column - row).abs() > reach);
  const Tensor order =  // [B, H, count, count], 0 where the block is no candidate
      at::stack(draws) * others * has_real.unsqueeze(1).unsqueeze(1);
  const auto [draw, drawn] = order.topk(std::min(options.random_blocks, count));

  const auto all = [&](const Tensor& x) { return x.expand({batch, heads, count, x.size(-1)}); };
  const Tensor in_window =
      (window >= options.global_blocks).logical_and(window >= 0).logical_and(window < count);
  return {at::cat({all(first), all(window.clamp(0, count - 1)), drawn}, -1),
          at::cat({all(at::ones_like(first, at::kBool)), all(in_window), draw > 0}, -1)};
}

// x [B, H, count * block, D] -> the blocks of the pattern, [B * H, count, K * block, D].
Tensor blocks_of(const Tensor& x, const Pattern& pattern, int64_t block) {
  const int64_t batch = x.size(0), heads = x.size(1), width = x.size(3);
  const int64_t count = pattern.blocks.size(2);
  const Tensor index = pattern.blocks.flatten(2).unsqueeze(-1).expand({-1, -1, -1, block * width});
  return x.reshape({batch, heads, count, block * width})
      .gather(2, index)
      .view({batch * heads, count, -1, width});
}

}  // namespace

BigbirdAttention::BigbirdAttention(const AttentionConfig& config) : options_(config.bigbird) {
  const auto at_least = [](const char* name, int64_t value, int64_t least) {
    if (value < least) {
      fail("attention.bigbird.", name, " is ", value, ", expected at least ", least);
    }
  };
  at_least("block", options_.block, 1);
  at_least("global_blocks", options_.global_blocks, 0);
  at_least("random_blocks", options_.random_blocks, 0);
  if (options_.window_blocks < 1 || options_.window_blocks % 2 == 0) {
    fail("attention.bigbird.window_blocks is ", options_.window_blocks, ", expected an odd number");
  }
}

Tensor BigbirdAttention::forward(const Tensor& query, const Tensor& key, const Tensor& value,
                                 const Tensor& mask) {
  if (value.numel() == 0) return value;
  const Heads in(query, key, value, mask);
  const int64_t batch = value.size(0), tokens = value.size(1), heads = value.size(2),
                width = value.size(3), block = options_.block;
  const int64_t first = std::min(options_.global_blocks * block, tokens);
  const Tensor full = at::scaled_dot_product_attention(in.query.narrow(2, 0, first), in.key,
                                                       in.value, in.visible_keys());
  if (first == tokens) return full.transpose(1, 2);

  const int64_t count = (tokens + block - 1) / block, padding = count * block - tokens;
  const auto padded = [&](const Tensor& x) { return at::constant_pad_nd(x, {0, 0, 0, padding}); };
  const Tensor real = at::constant_pad_nd(in.real, {0, padding}, false);
  const Pattern pattern = pattern_of(options_, real.view({batch, count, block}).any(-1), heads);
  const Tensor real_keys =
      blocks_of(real.view({batch, 1, -1, 1}).expand({-1, heads, -1, -1}), pattern, block)
          .transpose(-2, -1)
          .logical_and(
              pattern.allowed.repeat_interleave(block, -1).view({batch * heads, count, 1, -1}));
  // A block that may see nothing is all padding: let it see anything, so that its rows are finite.
  const Tensor allowed = real_keys.logical_or(real_keys.any(-1, /*keepdim=*/true).logical_not());
  const Tensor out = at::scaled_dot_product_attention(
      padded(in.query).reshape({batch * heads, count, block, width}),
      blocks_of(padded(in.key), pattern, block), blocks_of(padded(in.value), pattern, block),
      allowed);
  const Tensor rows = out.reshape({batch, heads, count * block, width});
  return at::cat({full, rows.narrow(2, first, tokens - first)}, 2).transpose(1, 2);
}

}  // namespace yoso::nn
