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

// What each block attends to: the first blocks, a window around it, and some drawn ones.
class Pattern {
 public:
  // has_real [B, count]: blocks with a real token.
  Pattern(const BigbirdOptions& options, const Tensor& has_real, int64_t heads)
      : heads_(heads),
        count_(has_real.size(1)),
        block_(options.block),
        first_(std::min(options.global_blocks, count_)),
        window_(options.window_blocks) {
    const auto numbers = at::TensorOptions(has_real.device()).dtype(at::kLong);
    const Tensor row = at::arange(count_, numbers).unsqueeze(1);     // [count, 1]
    const Tensor column = at::arange(count_, numbers).unsqueeze(0);  // [1, count]
    const Tensor window = row + at::arange(-reach(), reach() + 1, numbers);
    in_window_ = (window >= options.global_blocks).logical_and(window < count_);

    std::vector<Tensor> draws;
    for (int64_t head = 0; head < heads; ++head)
      draws.push_back(Draws{options.seed, static_cast<uint32_t>(head), has_real.device()}.uniforms(
          count_, count_));
    const Tensor others =
        (column >= options.global_blocks).logical_and((column - row).abs() > reach());
    const Tensor order =  // [B, H, count, count], 0 where the block is no candidate
        at::stack(draws) * others * has_real.unsqueeze(1).unsqueeze(1);
    const auto [draw, drawn] = order.topk(std::min(options.random_blocks, count_));
    drawn_ = drawn;
    is_drawn_ = draw > 0;
  }

  // x [B, H or 1, count * block, D] -> the blocks of the pattern, [B, H, count, K * block, D].
  Tensor blocks_of(const Tensor& x) const {
    const int64_t batch = x.size(0), width = x.size(3);
    const Tensor blocks = x.expand({batch, heads_, -1, -1}).unflatten(2, {count_, block_});
    const Tensor first =
        blocks.narrow(2, 0, first_).flatten(2, 3).unsqueeze(2).expand({-1, -1, count_, -1, -1});
    const Tensor window = at::constant_pad_nd(blocks, {0, 0, 0, 0, reach(), reach()})
                              .unfold(2, window_, 1)  // [B, H, count, block, D, window]
                              .permute({0, 1, 2, 5, 3, 4})
                              .flatten(3, 4);
    const Tensor index = drawn_.flatten(2).unsqueeze(-1).expand({-1, -1, -1, block_ * width});
    const Tensor drawn =
        blocks.flatten(3).gather(2, index).view({batch, heads_, count_, -1, width});
    return at::cat({first, window, drawn}, 3);
  }
  // Whether there is such a block, and not twice; [B, H, count, K * block].
  Tensor is_there() const {
    const auto all = [&](const Tensor& x) {
      return x.expand({drawn_.size(0), heads_, count_, x.size(-1)});
    };
    const Tensor first = at::ones({1, first_}, in_window_.options());
    return at::cat({all(first), all(in_window_), is_drawn_}, -1).repeat_interleave(block_, -1);
  }

 private:
  int64_t reach() const { return window_ / 2; }

  int64_t heads_, count_, block_, first_, window_;
  Tensor in_window_;         // [count, window] bool
  Tensor drawn_, is_drawn_;  // [B, H, count, random]
};

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
  const Pattern pattern(options_, real.view({batch, count, block}).any(-1), heads);
  const Tensor real_keys = pattern.blocks_of(real.view({batch, 1, -1, 1}))
                               .transpose(-2, -1)
                               .logical_and(pattern.is_there().unsqueeze(-2));
  // A block that may see nothing is all padding: let it see anything, so that its rows are finite.
  const Tensor allowed = real_keys.logical_or(real_keys.any(-1, /*keepdim=*/true).logical_not());
  const Tensor out = at::scaled_dot_product_attention(
      padded(in.query).reshape({batch * heads, count, block, width}),
      pattern.blocks_of(padded(in.key)).flatten(0, 1),
      pattern.blocks_of(padded(in.value)).flatten(0, 1), allowed.flatten(0, 1));
  const Tensor rows = out.reshape({batch, heads, count * block, width});
  return at::cat({full, rows.narrow(2, first, tokens - first)}, 2).transpose(1, 2);
}

}  // namespace yoso::nn
