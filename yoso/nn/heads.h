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

  double scale() const;          // D^-1/2
  at::Tensor real_keys() const;  // [B, 1, 1, N] bool
  at::Tensor real_rows() const;  // [B, 1, N, 1] bool
  // The same with every key visible in a sequence that has no real one: its rows are all masked,
  // and torch's fused softmax is not asked for the mean of nothing.
  at::Tensor visible_keys() const;
};

// Softmax over the last dimension among the entries that `allowed` (bool, broadcast) allows; others
// are 0, and so is a row that is allowed nothing. 16-bit scores are taken as float.
at::Tensor masked_softmax(const at::Tensor& scores, const at::Tensor& allowed);

// x in float where it has 16 bits: for sums and exponentials.
at::Tensor wide(const at::Tensor& x);

// x [..., D] and `column` [..., 1] -> [..., D + 8]: zeros behind it keep rows on boundaries of 16
// bytes. Of values, with ones: weighted sums of such rows carry the sums of their weights.
at::Tensor with_column(const at::Tensor& x, const at::Tensor& column);
// Weighted sums of rows with a column of ones [..., D + 8] -> [..., D]: their means, 0 where there is
// no weight.
at::Tensor means_of(const at::Tensor& sums);

// For fused attention without a mask of its own for each sequence: keys [..., D + 8] of which those
// that are not `seen` [..., 1] (bool) have no weight beside any that is, for queries of
// with_column(query, ones). The scale stays that of D.
at::Tensor hide_keys(const at::Tensor& key, const at::Tensor& seen);

// out_i = sum_j (f_i . g_j) v_j / sum_j f_i . g_j over the real tokens j, in time linear in N:
// query_features and key_features [B, H, N, F] at least 0. Returns [B, H, N, D].
at::Tensor feature_attention(const Heads& in, const at::Tensor& query_features,
                             const at::Tensor& key_features);

// The weight of convolve_tokens (yoso/torch/convolution.h) at first: uniform, within one over the
// root of the taps, as for torch's convolutions. Throws Error naming `name` unless width is odd and
// at least 1.
at::Tensor initial_convolution(const char* name, int64_t heads, int64_t width);

}  // namespace yoso::nn
