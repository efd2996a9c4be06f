// YOSO attention as plain tensor algebra in double with torch's autograd: what the tests of
// yoso_attention compare with. Quadratic, written from docs/math.md and not from the operators.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

#include "yoso/torch/attention.h"
#include "yoso/torch/dispatch.h"

namespace yoso::testing {

using at::Tensor;

// [B, N, Hk, D] to [B, Hk * repeats, N, D].
inline Tensor heads_first(const Tensor& x, int64_t repeats) {
  return x.transpose(1, 2).repeat_interleave(repeats, 1);
}

inline Tensor normalized(const Tensor& x) {
  return x / x.norm(2, -1, /*keepdim=*/true).clamp_min(1e-12);
}

inline Tensor collision_probability(const Tensor& x, double code_bits) {
  return (1 - x.clamp(-1, 1).acos() / std::numbers::pi).pow(code_bits);
}

inline Tensor collision_slope(const Tensor& x, double code_bits) {
  const Tensor root = (1 - x * x).clamp_min(1e-4).sqrt();
  return code_bits * (1 - x.clamp(-1, 1).acos() / std::numbers::pi).pow(code_bits - 1) /
         (std::numbers::pi * root);
}

// The weights of all pairs, [B, H, Nq, Nk], and the slope that the gradient is to use.
struct Weights {
  Tensor weight, slope;
};

// x: the cosines [B, H, Nq, Nk]. codes [B, H, M, N] of both sides, undefined when expected.
inline Weights pair_weights(const Tensor& x, const Tensor& query_codes, const Tensor& key_codes,
                            const YosoOptions& options) {
  const double bits = options.code_bits;
  Weights w;
  Tensor collided = at::ones_like(x);
  if (query_codes.defined()) {
    const Tensor equal = query_codes.to(at::kInt).transpose(2, 3).unsqueeze(3) ==
                         key_codes.to(at::kInt).transpose(2, 3).unsqueeze(2);
    w.weight = equal.to(at::kDouble).mean(-1);
    collided = equal.any(-1).to(at::kDouble);
  } else {
    w.weight = collision_probability(x, bits);
  }
  w.slope = options.gradient == Gradient::kTrue ? collided * collision_slope(x, bits)
                                                : bits / 2 * w.weight;
  return w;
}

// What yoso_attention computes, in double, for padded inputs. Its autograd gives the declared
// gradient: the weight is replaced by weight + slope * (x - x), whose derivative in x is the slope.
inline Tensor formula(const YosoInputs& in, const YosoOptions& options) {
  const int64_t repeats = in.query.size(2) / std::max<int64_t>(in.key.size(2), 1);
  Tensor query = in.query.to(at::kDouble), key = in.key.to(at::kDouble),
         value = in.value.to(at::kDouble);
  // Masked rows may hold NaN.
  const auto clear = [](const Tensor& x, const Tensor& mask) {
    return mask.defined() ? x.masked_fill(mask.logical_not().unsqueeze(-1).unsqueeze(-1), 0) : x;
  };
  query = clear(query, in.query_mask);
  key = clear(key, in.key_mask);
  value = clear(value, in.key_mask);

  Tensor query_codes, key_codes;
  if (options.mode == Mode::kSampled) {
    const auto codes = [&](const Tensor& x) {
      return ops::hash(x.detach(), options.num_hashes, static_cast<int64_t>(options.code_bits),
                       *options.seed, options.projection, in.key.size(2));
    };
    query_codes = codes(in.query);
    key_codes = codes(in.key).to(at::kInt).repeat_interleave(repeats, 1);
  }
  const Tensor x = at::matmul(heads_first(normalized(query), 1),
                              heads_first(normalized(key), repeats).transpose(2, 3));
  const Weights w = pair_weights(x.detach(), query_codes, key_codes, options);
  Tensor weight = w.weight + w.slope * (x - x.detach());
  if (in.query_mask.defined()) weight = weight * in.query_mask.unsqueeze(1).unsqueeze(-1);
  if (in.key_mask.defined()) weight = weight * in.key_mask.unsqueeze(1).unsqueeze(1);
  Tensor out = at::matmul(weight, heads_first(value, repeats)).transpose(1, 2);
  if (options.normalize_output) out = normalized(out);
  if (in.conv_weight.defined()) {
    const int64_t taps = in.conv_weight.size(1), tokens = value.size(1);
    const Tensor padded = at::constant_pad_nd(value, {0, 0, 0, 0, taps / 2, taps / 2});
    for (int64_t t = 0; t < taps; ++t) {
      const Tensor filter = in.conv_weight.to(at::kDouble).select(1, t).view({1, 1, -1, 1});
      out = out + clear(filter * padded.narrow(1, t, tokens), in.query_mask);
    }
  }
  return out;
}

}  // namespace yoso::testing
