// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/real_tokens.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "yoso/core/check.h"

namespace yoso::nn {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor select(const Tensor& x, const Tensor& rows) {
  return x.reshape({-1, x.size(-1)}).index_select(0, rows);
}

// x [R, W] at `rows` of [B, N, W], and 0 elsewhere. Faster on a GPU than a selection the other way.
Tensor place(const Tensor& x, at::IntArrayRef batch_and_tokens, const Tensor& rows) {
  const int64_t sequences = batch_and_tokens[0], tokens = batch_and_tokens[1];
  return at::zeros({sequences * tokens, x.size(1)}, x.options())
      .index_copy_(0, rows, x)
      .view({sequences, tokens, x.size(1)});
}

// torch's own gradients of index_select add up rows one by one, which are here once each.
class PackFunction : public torch::autograd::Function<PackFunction> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& mask,
                        const Tensor& rows) {
    ctx->save_for_backward({rows});
    const bool of_every = x.size(0) < mask.size(0);
    ctx->saved_data["sizes"] = mask.sizes().vec();
    ctx->saved_data["of_every"] = of_every;
    return select(x, of_every ? rows.remainder(x.size(1)) : rows);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const Tensor grad =
        place(grads[0], ctx->saved_data["sizes"].toIntVector(), ctx->get_saved_variables()[0]);
    return {ctx->saved_data["of_every"].toBool() ? grad.sum(0, /*keepdim=*/true) : grad, {}, {}};
  }
};

class SpreadFunction : public torch::autograd::Function<SpreadFunction> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& mask,
                        const Tensor& rows, const Tensor& padding) {
    ctx->save_for_backward({rows, padding});
    return place(x, mask.sizes(), rows);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    return {select(grads[0], saved[0]).masked_fill_(saved[1], 0), {}, {}, {}};
  }
};

}  // namespace

RealTokens::RealTokens(const Tensor& mask, std::optional<int64_t> real_below) {
  const int64_t count = mask.is_cpu() ? mask.sum().item<int64_t>() : 0;
  if (!real_below && mask.is_cpu()) real_below = count + 1;
  if (!real_below) return;
  if (*real_below <= count) {
    fail("encoder: real_below is ", *real_below, ", expected more than the real tokens, ",
         mask.is_cpu() ? join(count) : "at least 1");
  }
  if (!pays(*real_below, mask.numel())) return;
  mask_ = mask;
  const Tensor is_padding = mask.flatten().logical_not();
  rows_ = is_padding.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/false)
              .narrow(0, 0, *real_below);
  padding_ = is_padding.index_select(0, rows_).unsqueeze(1);
  offsets_ = at::constant_pad_nd(mask.sum(1).cumsum(0), {1, 0}).clamp_max_(*real_below);
}

Tensor RealTokens::pack(const Tensor& x) const {
  return are_packed() ? PackFunction::apply(x, mask_, rows_) : x;
}

Tensor RealTokens::spread(const Tensor& x) const {
  return are_packed() ? SpreadFunction::apply(x, mask_, rows_, padding_) : x;
}

}  // namespace yoso::nn
