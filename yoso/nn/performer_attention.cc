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
    return feature_attention(in, features(in.query), features(in.key)).transpose(1, 2);
  }
  // A factor for each query, of which |q|^2 / 2 is a part, and one for all keys of a sequence and
  // head cancel. They keep exp at most 1, and what is largest at 1. In place: features are many
  // times what a head holds.
  Tensor queries = at::matmul(in.query * root, directions.t());
  queries.sub_(queries.detach().amax(-1, /*keepdim=*/true)).exp_();

  const Tensor scaled = in.key * root;
  Tensor keys = at::matmul(scaled, directions.t());
  const Tensor half_square = wide(scaled).square().sum(-1, /*keepdim=*/true) / 2;
  const Tensor padding = in.real_rows().logical_not();
  const Tensor top = (keys.detach().amax(-1, /*keepdim=*/true) - half_square.detach())
                         .masked_fill(padding, std::numeric_limits<float>::lowest())
                         .amax(-2, /*keepdim=*/true)
                         .masked_fill(padding, std::numeric_limits<float>::infinity());
  keys.sub_(half_square + top).exp_();
  return feature_attention(in, queries, keys).transpose(1, 2);
}

}  // namespace yoso::nn
