// What the attention kinds made of torch's operations share: heads before tokens, masked softmax,
// attention by feature maps.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

namespace yoso::nn {

// Inputs of a kind, heads before tokens. Masked rows are 0, so whatever they held is forgotten.
struct Heads {
  Heads(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
        const at::Tensor& mask);

  at::Tensor query, key, value;  // [B, H, N, D]
  at::Tensor real;               // [B, N] bool
  at::Tensor count;              // [B] int64: real tokens

  double scale() const;                             // D^-1/2
  at::Tensor real_rows(const at::Tensor& x) const;  // [B, H, N, *] with 0 in masked rows
  at::Tensor real_keys() const;                     // [B, 1, 1, N] bool
  // The same with every key visible in a sequence that has no real one: its rows are all masked,
  // and torch's fused softmax is not asked for the mean of nothing.
  at::Tensor visible_keys() const;
};

// Softmax over the last dimension among the entries that `allowed` (bool, broadcast) allows; others
// are 0, and so is a row that is allowed nothing. 16-bit scores are taken as float.
at::Tensor masked_softmax(const at::Tensor& scores, const at::Tensor& allowed);

// x in float where it has 16 bits: for sums and exponentials.
at::Tensor wide(const at::Tensor& x);

// out_i = sum_j (f_i . g_j) v_j / sum_j f_i . g_j, in time linear in N: query_features and
// key_features [B, H, N, F] at least 0, those of masked keys 0; value [B, H, N, D]. Rows without
// any weight are 0.
at::Tensor feature_attention(const at::Tensor& query_features, const at::Tensor& key_features,
                             const at::Tensor& value);

// The weight of convolve_tokens (yoso/torch/convolution.h) at first: uniform, within one over the
// root of the taps, as for torch's convolutions. Throws Error naming `name` unless width is odd and
// at least 1.
at::Tensor initial_convolution(const char* name, int64_t heads, int64_t width);

}  // namespace yoso::nn
