// SPDX-License-Identifier: Apache-2.0
#include "yoso/torch/convolution.h"

#include <ATen/ops/bmm.h>
#include <ATen/ops/constant_pad_nd.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

namespace yoso {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Tokens of a block: about as many as the filter has taps, so that a product does at most three
// times its work, but so few that the band stays small.
int64_t block_of(int64_t taps) { return std::clamp<int64_t>((taps + 31) / 64 * 64, 64, 512); }

int64_t blocks_of(const Tensor& value, int64_t block) {
  return (value.size(1) + block - 1) / block;
}

// weight [H, taps] -> [H, block, block + taps - 1]: row i has the filter from column i on.
Tensor band_of(const Tensor& weight, int64_t block) {
  // Rows one longer than those: each begins one further to the right than the one before.
  const int64_t heads = weight.size(0), pitch = weight.size(1) + block;
  return at::constant_pad_nd(weight, {0, block})
      .unsqueeze(1)
      .expand({heads, block, pitch})
      .reshape({heads, block * pitch})
      .narrow(1, 0, block * (pitch - 1))
      .view({heads, block, pitch - 1});
}

// Its adjoint: sums along the diagonals.
Tensor sums_of_band(const Tensor& band, int64_t block, int64_t taps) {
  return at::constant_pad_nd(band.flatten(1), {0, block})
      .view({band.size(0), block, taps + block})
      .sum(1)
      .narrow(1, 0, taps);
}

// [B, N, H, D] -> [H, block + taps - 1, blocks of all B times D]: a block's tokens and those around.
Tensor windows_of(const Tensor& value, int64_t block, int64_t taps) {
  const int64_t size = block + taps - 1;
  const int64_t after = blocks_of(value, block) * block - value.size(1) + taps / 2;
  return at::constant_pad_nd(value, {0, 0, 0, 0, taps / 2, after})
      .unfold(1, size, block)  // [B, blocks, H, D, size]
      .permute({2, 4, 0, 1, 3})
      .reshape({value.size(2), size, -1});
}

Tensor convolved(const Tensor& value, const Tensor& weight) {
  const int64_t batch = value.size(0), tokens = value.size(1), heads = value.size(2),
                width = value.size(3), taps = weight.size(1);
  const int64_t block = block_of(taps), blocks = blocks_of(value, block);
  return at::bmm(band_of(weight, block), windows_of(value, block, taps))
      .view({heads, block, batch, blocks, width})
      .permute({2, 3, 1, 0, 4})
      .reshape({batch, blocks * block, heads, width})
      .narrow(1, 0, tokens);
}

c10::impl::ExcludeDispatchKeyGuard without_autocast() {
  return c10::impl::ExcludeDispatchKeyGuard(c10::autocast_dispatch_keyset);
}

class ConvolutionFunction : public torch::autograd::Function<ConvolutionFunction> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& value, const Tensor& weight) {
    const auto guard = without_autocast();
    ctx->save_for_backward({value, weight});
    return convolved(value, weight);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "convolve_tokens: create_graph is true, expected false: double backward is not "
                "supported");
    const auto guard = without_autocast();
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &value = saved[0], &weight = saved[1], &grad = grads[0];
    Tensor value_grad, weight_grad;
    if (ctx->needs_input_grad(0)) value_grad = convolved(grad, weight.flip(1));
    if (ctx->needs_input_grad(1)) {
      const int64_t taps = weight.size(1), block = block_of(taps);
      const Tensor rows = windows_of(grad, block, 1), columns = windows_of(value, block, taps);
      weight_grad = sums_of_band(at::bmm(rows, columns.transpose(1, 2)), block, taps);
    }
    return {value_grad, weight_grad};
  }
};

}  // namespace

Tensor convolve_tokens(const Tensor& value, const Tensor& weight) {
  // Further taps meet no token.
  const int64_t taps = std::min(weight.size(1), 2 * value.size(1) - 1);
  const Tensor met = weight.narrow(1, (weight.size(1) - taps) / 2, taps);
  return ConvolutionFunction::apply(value, met.to(value.scalar_type()));
}

}  // namespace yoso
