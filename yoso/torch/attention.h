// yoso_attention: YOSO attention on tensors with autograd, composed of the registered operators.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "yoso/torch/options.h"

namespace yoso {

// Attention over heads.
//   query [B, Nq, Hq, D], key [B, Nk, Hk, D], value [B, Nk, Hk, V], Hq a multiple of Hk; float,
//   double (CPU only), bfloat16 or half, all the same and on one device, CPU or GPU. Returns
//   [B, Nq, Hq, V] of the same type. Under torch's autocast for that device they are cast to its
//   type first, as for torch's own attention.
//   query_mask [B, Nq], key_mask [B, Nk]: bool, true = real; undefined: all real.
//   query_offsets, key_offsets: [B + 1] int64 (cu_seqlens) on the CPU; then the tensors are
//   [total, H, *] and masks [total]. Both or neither. Or both on the GPU of the tensors, and
//   longest: at least the tokens of any sequence; then they may end before total, and tokens that
//   follow give 0. They must rise and no sequence be longer: checked
//   there, where a mistake stops all work on the GPU. Scratch memory grows with B x longest.
//   conv_weight [Hq, w], w odd: YOSO-C, adds the depthwise convolution of the (masked) values over
//   the tokens to the normalised output; needs Nq == Nk, Hq == Hk, no offsets. Undefined: none.
// On a GPU the work is queued on torch's current stream, and nothing waits for it. A CUDA graph
// that captures a call keeps the hashes of options.seed; without it, each replay draws new ones
// where the graph advances torch's generator, as at::cuda::CUDAGraph does. Queries and keys are
// normalised inside, and gradients are those of the raw tensors. The seed is fixed when the forward
// runs and kept for the backward. Throws c10::Error naming the argument, what it got and what it
// expected. Double backward is refused.
struct YosoInputs {
  at::Tensor query, key, value;
  at::Tensor query_mask = {}, key_mask = {};
  at::Tensor query_offsets = {}, key_offsets = {};
  std::optional<int64_t> longest = {};
  at::Tensor conv_weight = {};
};
at::Tensor yoso_attention(const YosoInputs& inputs, const YosoOptions& options);

}  // namespace yoso
