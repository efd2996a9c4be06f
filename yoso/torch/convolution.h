// The depthwise convolution of values over tokens that YOSO-C and Nystromformer add:
//
//   out[b, n, h] = sum_t weight[h, t] value[b, n + t - w/2, h],   0 beyond the ends
//
// as products of matrices, which are faster than a library's depthwise convolutions: of 64 tokens at
// a time, the filter, shifted by one for every row, times the tokens and w/2 more on either side.
// What is not finite reaches all 64.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace yoso {

// value [B, N, H, D], N at least 1; weight [H, w], w odd, on the same device, taken in the type of
// value. Returns [B, N, H, D]. There is no double backward.
at::Tensor convolve_tokens(const at::Tensor& value, const at::Tensor& weight);

}  // namespace yoso
