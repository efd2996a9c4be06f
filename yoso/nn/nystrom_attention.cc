// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/nystrom_attention.h"

#include <ATen/autocast_mode.h>

#include <algorithm>
#include <limits>

#include "yoso/core/check.h"
#include "yoso/nn/heads.h"
#include "yoso/torch/convolution.h"

namespace yoso::nn {
namespace {

using at::Tensor;

// Which landmark each token belongs to, and what there is to know about the landmarks.
struct Landmarks {
  // m runs of the n real tokens of a sequence, or n where it has fewer; a sequence without a real
  // token has one landmark, which is 0.
  Landmarks(const Heads& in, int64_t most) {
    const Tensor tokens = in.count.clamp_min(1).unsqueeze(1);  // [B, 1]
    const Tensor used = tokens.clamp_max(most);
    const Tensor index = at::arange(most, in.count.options()).unsqueeze(0);
    const Tensor rank = in.real.cumsum(1) - 1;
    const Tensor mine = (rank * used).div(tokens, "floor");  // [B, N]
    const Tensor member =
        (mine.unsqueeze(1) == index.unsqueeze(2)).logical_and(in.real.unsqueeze(1));
    means_ = member.to(in.query.scalar_type()) / member.sum(-1, /*keepdim=*/true).clamp_min(1);
    exists = index < used;
    exact = tokens <= most;
  }

  // [B, H, N, D] -> [B, H, m, D]
  Tensor of(const Tensor& x) const { return at::matmul(means_.unsqueeze(1), x); }

  Tensor exists;  // [B, m] bool
  Tensor exact;   // [B, 1] bool: every real token is a landmark

 private:
  Tensor means_;  // [B, m, N], rows sum to 1, or to 0 where there is no landmark
};

}  // namespace

Tensor pseudo_inverse(const Tensor& a, int64_t iterations) {
  // Every step squares what the last one rounded, so autocast's 16 bits would not do.
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const Tensor one = at::eye(a.size(-1), a.options());
  const Tensor norms = a.abs().sum(-2).amax(-1) * a.abs().sum(-1).amax(-1);
  Tensor z = a.transpose(-2, -1) /
             norms.clamp_min(std::numeric_limits<float>::min()).unsqueeze(-1).unsqueeze(-1);
  for (int64_t i = 0; i < iterations; ++i) {
    const Tensor az = at::matmul(a, z);
    const Tensor inner = 15 * one - at::matmul(az, 7 * one - az);
    z = at::matmul(z, 13 * one - at::matmul(az, inner)) / 4;
  }
  return z;
}

NystromAttention::NystromAttention(const AttentionConfig& config)
    : landmarks_(config.nystrom.landmarks), iterations_(config.nystrom.iterations) {
  if (landmarks_ < 1) {
    fail("attention.nystrom.landmarks is ", landmarks_, ", expected at least 1");
  }
  if (iterations_ < 0) {
    fail("attention.nystrom.iterations is ", iterations_, ", expected at least 0");
  }
  if (config.nystrom.conv_width == 0) return;
  conv_weight_ = register_parameter(
      "conv_weight",
      initial_convolution("attention.nystrom.conv_width", config.heads, config.nystrom.conv_width));
}

Tensor NystromAttention::forward(const Tensor& query, const Tensor& key, const Tensor& value,
                                 const Tensor& mask) {
  if (value.numel() == 0) return value;
  const Heads in(query, key, value, mask);
  const Landmarks landmarks(in, std::min(landmarks_, value.size(1)));
  const Tensor queries = landmarks.of(in.query), keys = landmarks.of(in.key);
  const Tensor exists = landmarks.exists.unsqueeze(1).unsqueeze(1);  // [B, 1, 1, m]

  // What a query sees at each landmark. Where all tokens are landmarks, exactly their values.
  Tensor seen = landmarks.of(in.value);
  if (value.size(1) > landmarks_) {
    const Tensor a = masked_softmax(at::matmul(queries, keys.transpose(-2, -1)) * in.scale(),
                                    exists.logical_and(exists.transpose(-2, -1)));
    const Tensor far =
        at::scaled_dot_product_attention(queries, in.key, in.value, in.visible_keys());
    const Tensor solved = at::matmul(pseudo_inverse(a, iterations_).to(far.scalar_type()), far);
    seen = at::where(landmarks.exact.unsqueeze(-1).unsqueeze(-1), seen, solved);
  }
  const Tensor out = at::scaled_dot_product_attention(in.query, keys, seen, exists).transpose(1, 2);
  return conv_weight_.defined() ? out + convolve_tokens(in.value.transpose(1, 2), conv_weight_)
                                : out;
}

}  // namespace yoso::nn
