// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/race_attention.h"

#include "yoso/core/check.h"
#include "yoso/nn/heads.h"

namespace yoso::nn {

using at::Tensor;

RaceAttention::RaceAttention(const AttentionConfig& config) : tables_(config.race.tables) {
  const int64_t planes = config.race.planes;
  if (tables_ < 1) fail("attention.race.tables is ", tables_, ", expected at least 1");
  if (planes < 1 || planes > 12) {
    fail("attention.race.planes is ", planes, ", expected 1 to 12");
  }
  if (config.head_width < 1) {
    fail("attention.head_width is ", config.head_width, ", expected at least 1");
  }
  planes_ = register_buffer("planes", at::randn({tables_ * planes, config.head_width}));
  // Bit t of a corner's number says on which side of plane t it lies.
  const Tensor bits =
      at::arange(int64_t{1} << planes).bitwise_right_shift(at::arange(planes).unsqueeze(1)) % 2;
  corners_ = register_buffer("corners", (bits * 2 - 1).to(at::kFloat));
  sharpness_ = register_parameter("sharpness", at::ones({1}));
}

Tensor RaceAttention::features(const Tensor& x) const {
  const Tensor sides = wide(at::matmul(x, planes_.to(x.scalar_type()).t())).tanh() * sharpness_;
  const Tensor table = sides.unflatten(-1, {tables_, -1});  // [B, H, N, L, P]
  const Tensor corners = corners_.to(table.scalar_type());
  return at::matmul(table, corners).softmax(-1).flatten(-2);
}

Tensor RaceAttention::forward(const Tensor& query, const Tensor& key, const Tensor& value,
                              const Tensor& mask) {
  if (value.numel() == 0) return value;
  const Heads in(query, key, value, mask);
  return feature_attention(in, features(in.query), features(in.key)).transpose(1, 2);
}

}  // namespace yoso::nn
