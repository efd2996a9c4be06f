// The depthwise convolution of values over tokens that YOSO-C and Nystromformer add:
//
//   out[b, n, h] = sum_t weight[h, t] value[b, n + t - w/2, h],   0 beyond the ends
//
// as products of matrices: of a block of tokens, 64 or with long filters up to 512, the filter,
// shifted by one for every row, times the tokens and w/2 more on either side. With the 33 taps of
// the papers that is several times faster than torch's convolution of groups, with 3 about as fast.
// Memory: (block + w - 1)/block times the values. What is not finite reaches every block whose
// tokens, or w/2 around them, hold it; of the filter's gradient, all of its head.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace yoso {

// value [B, N, H, D], none of them 0; weight [H, w], w odd, on the same device, taken in the type
// of value. Returns [B, N, H, D]. There is no double backward.
at::Tensor convolve_tokens(const at::Tensor& value, const at::Tensor& weight);

}  // namespace yoso
