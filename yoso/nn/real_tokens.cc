// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/real_tokens.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace yoso::nn {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The rows of x [B, N, W] at `rows`.
Tensor select(const Tensor& x, const Tensor& rows) {
  return x.reshape({-1, x.size(-1)}).index_select(0, rows);
}

// The rows of x [R, W] at `place`, as mask [B, N] stands.
Tensor place_rows(const Tensor& x, const Tensor& place, const Tensor& mask) {
  return x.index_select(0, place).view({mask.size(0), mask.size(1), x.size(1)});
}

// torch's own gradients of index_select add up rows one by one, which are here once each.
class PackFunction : public torch::autograd::Function<PackFunction> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& mask,
                        const Tensor& rows, const Tensor& place) {
    ctx->save_for_backward({mask, place});
    return select(x, rows);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor grad = place_rows(grads[0], saved[1], saved[0]);
    return {grad.masked_fill(saved[0].logical_not().unsqueeze(-1), 0), {}, {}, {}};
  }
};

class SpreadFunction : public torch::autograd::Function<SpreadFunction> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& mask,
                        const Tensor& rows, const Tensor& place) {
    ctx->save_for_backward({rows});
    return place_rows(x, place, mask);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return {select(grads[0], ctx->get_saved_variables()[0]), {}, {}, {}};
  }
};

}  // namespace

RealTokens::RealTokens(const Tensor& mask) {
  if (!mask.is_cpu()) return;
  const Tensor rows = mask.flatten().nonzero().squeeze(1);
  if (rows.numel() == 0 || 5 * rows.numel() > 4 * mask.numel()) return;
  mask_ = mask;
  rows_ = rows;
  place_ = mask.flatten().cumsum(0).sub_(1).clamp_min_(0);
}

Tensor RealTokens::pack(const Tensor& x) const {
  return mask_.defined() ? PackFunction::apply(x, mask_, rows_, place_) : x;
}

Tensor RealTokens::spread(const Tensor& x) const {
  return mask_.defined() ? SpreadFunction::apply(x, mask_, rows_, place_) : x;
}

}  // namespace yoso::nn
