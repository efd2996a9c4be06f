// The depthwise convolution of values over tokens that YOSO-C and Nystromformer add:
//
//   out[b, n, h] = sum_t weight[h, t] value[b, n + t - w/2, h],   0 beyond the ends
//
// On a GPU tokens are cut into blocks of kBlock. A block is a product of matrices: the filter,
// shifted by one for every row, times the block's tokens and w/2 more on either side. What is not
// finite reaches the whole block there.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace yoso {

// value [B, N, H, D], N at least 1; weight [H, w], w odd, on the same device, taken in the type of
// value. Returns [B, N, H, D].
at::Tensor convolve_tokens(const at::Tensor& value, const at::Tensor& weight);

// The two ways: convolve_tokens takes the first one on a CPU, the second one on a GPU. Of the second
// one there is no double backward.
at::Tensor convolve_by_library(const at::Tensor& value, const at::Tensor& weight);
at::Tensor convolve_by_blocks(const at::Tensor& value, const at::Tensor& weight);

}  // namespace yoso
