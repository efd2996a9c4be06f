// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/performer_attention.h"

#include <cmath>
#include <limits>
#include <vector>

#include "yoso/core/check.h"
#include "yoso/nn/heads.h"

namespace yoso::nn {

using at::Tensor;

Tensor orthogonal_normals(int64_t rows, int64_t width) {
  const std::vector<int64_t> blocks{(rows + width - 1) / width, width, width};
  const auto [q, r] = at::linalg_qr(at::randn(blocks));
  // The decomposition prefers a sign; with that of R's diagonal every rotation is as likely.
  const Tensor rotations = q * r.diagonal(0, -2, -1).sign().unsqueeze(-2);
  const Tensor lengths = at::randn(blocks).norm(2, -1, /*keepdim=*/true);
  return (rotations * lengths).flatten(0, 1).narrow(0, 0, rows).contiguous();
}

Tensor log_features(const Tensor& x, const Tensor& directions) {
  return wide(at::matmul(x, directions.t())) - wide(x).square().sum(-1, /*keepdim=*/true) / 2;
}

PerformerAttention::PerformerAttention(const AttentionConfig& config)
    : features_(config.performer.features) {
  const int64_t count = config.performer.num_features;
  if (count < 1) fail("attention.performer.num_features is ", count, ", expected at least 1");
  if (config.head_width < 1) {
    fail("attention.head_width is ", config.head_width, ", expected at least 1");
  }
  directions_ = register_buffer("directions", orthogonal_normals(count, config.head_width));
}

Tensor PerformerAttention::forward(const Tensor& query, const Tensor& key, const Tensor& value,
                                   const Tensor& mask) {
  if (value.numel() == 0) return value;
  const Heads in(query, key, value, mask);
  const double root = std::sqrt(in.scale());
  const Tensor directions = directions_.to(query.scalar_type());
  if (features_ == Features::kRelu) {
    const auto features = [&](const Tensor& x) {
      return wide(at::matmul(x * root, directions.t())).relu() + 1e-3;
    };
    return feature_attention(features(in.query), in.real_rows(features(in.key)), in.value)
        .transpose(1, 2);
  }
  // A factor for each query, of which |q|^2 / 2 is a part, and one for all keys of a sequence and
  // head cancel. They keep exp at most 1, and what is largest at 1. Of padding exp is 0.
  const Tensor queries = at::matmul(in.query * root, directions.t());
  const Tensor query_top = wide(queries.detach().amax(-1, /*keepdim=*/true));
  const Tensor keys = log_features(in.key * root, directions);
  const Tensor padding = in.real.logical_not().unsqueeze(1).unsqueeze(-1);
  const Tensor key_top = keys.detach()
                             .amax(-1, /*keepdim=*/true)
                             .masked_fill(padding, std::numeric_limits<float>::lowest())
                             .amax(-2, /*keepdim=*/true)
                             .masked_fill(padding, std::numeric_limits<float>::infinity());
  return feature_attention((queries - query_top).exp(), (keys - key_top).exp(), in.value)
      .transpose(1, 2);
}

}  // namespace yoso::nn
