// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/attention_testing.h"

namespace yoso::nn {
namespace {

using at::Tensor;

TEST(LinearAttention, IsTheExplicitProduct) {
  const Inputs in = inputs_of({9, 4, 1}, 9);
  const auto features = [](const Tensor& x) {  // [B, H, N, D]
    return at::where(x > 0, x + 1, x.exp()).transpose(1, 2);
  };
  const Tensor products = at::matmul(features(in.query), features(in.key).transpose(2, 3)) *
                          in.mask.unsqueeze(1).unsqueeze(1);
  const Tensor weights = products / products.sum(-1, /*keepdim=*/true);
  const Tensor expected = at::matmul(weights, in.value.transpose(1, 2)).transpose(1, 2);
  EXPECT_LE(difference(run(*attention_of({.kind = "linear"}), in), expected, in.mask), 1e-13);
}

// Features that all underflow give no weight, and 0 instead of 0/0.
TEST(LinearAttention, HasNoWeightsOfNothing) {
  Inputs in = inputs_of({3}, 3, at::kFloat);
  in.key = at::full_like(in.key, -200);
  EXPECT_EQ(run(*attention_of({.kind = "linear"}, at::kFloat), in).abs().max().item<double>(), 0);
}

}  // namespace
}  // namespace yoso::nn
