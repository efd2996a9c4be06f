// SPDX-License-Identifier: Apache-2.0
#include "yoso/torch/convolution.h"

#include <ATen/ops/bmm.h>
#include <ATen/ops/constant_pad_nd.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

namespace yoso {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kBlock = 64;  // tokens

int64_t blocks_of(const Tensor& value) { return (value.size(1) + kBlock - 1) / kBlock; }

// weight [H, w] -> [H, kBlock, kBlock + w - 1]: row i has the filter from column i on.
Tensor band_of(const Tensor& weight) {
  // Rows one longer than those: each begins one further to the right than the one before.
  const int64_t heads = weight.size(0), pitch = weight.size(1) + kBlock;
  return at::constant_pad_nd(weight, {0, kBlock})
      .unsqueeze(1)
      .expand({heads, kBlock, pitch})
      .reshape({heads, kBlock * pitch})
      .narrow(1, 0, kBlock * (pitch - 1))
      .view({heads, kBlock, pitch - 1});
}

// Its adjoint: sums along the diagonals.
Tensor sums_of_band(const Tensor& band, int64_t width) {
  const int64_t pitch = width + kBlock;
  return at::constant_pad_nd(band.flatten(1), {0, kBlock})
      .view({band.size(0), kBlock, pitch})
      .sum(1)
      .narrow(1, 0, width);
}

// [B, N, H, D] -> [H, kBlock + w - 1, blocks of all B times D]: a block's tokens, and those around.
Tensor windows_of(const Tensor& value, int64_t width) {
  const int64_t tokens = value.size(1), heads = value.size(2), size = kBlock + width - 1;
  const int64_t after = blocks_of(value) * kBlock - tokens + width / 2;
  return at::constant_pad_nd(value, {0, 0, 0, 0, width / 2, after})
      .unfold(1, size, kBlock)  // [B, blocks, H, D, size]
      .permute({2, 4, 0, 1, 3})
      .reshape({heads, size, -1});
}

Tensor convolved(const Tensor& value, const Tensor& weight) {
  const int64_t batch = value.size(0), tokens = value.size(1), heads = value.size(2),
                width = value.size(3), blocks = blocks_of(value);
  return at::bmm(band_of(weight), windows_of(value, weight.size(1)))
      .view({heads, kBlock, batch, blocks, width})
      .permute({2, 3, 1, 0, 4})
      .reshape({batch, blocks * kBlock, heads, width})
      .narrow(1, 0, tokens);
}

class ConvolutionFunction : public torch::autograd::Function<ConvolutionFunction> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& value, const Tensor& weight) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    ctx->save_for_backward({value, weight});
    return convolved(value, weight);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "convolve_tokens: create_graph is true, expected false: double backward is not "
                "supported");
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &value = saved[0], &weight = saved[1], &grad = grads[0];
    Tensor value_grad, weight_grad;
    if (ctx->needs_input_grad(0)) value_grad = convolved(grad, weight.flip(1));
    if (ctx->needs_input_grad(1)) {
      const int64_t width = weight.size(1);
      const Tensor rows = windows_of(grad, 1), columns = windows_of(value, width);
      weight_grad = sums_of_band(at::bmm(rows, columns.transpose(1, 2)), width);
    }
    return {value_grad, weight_grad};
  }
};

}  // namespace

Tensor convolve_tokens(const Tensor& value, const Tensor& weight) {
  return ConvolutionFunction::apply(value, weight.to(value.scalar_type()));
}

}  // namespace yoso
