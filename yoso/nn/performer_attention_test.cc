// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/performer_attention.h"

#include "yoso/core/testing.h"
#include "yoso/nn/attention_testing.h"

namespace yoso::nn {
namespace {

using at::Tensor;

double distance(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

// The weights of the definition, dense, normalised over real keys; features [B, N, H, m].
Tensor weighted(const Inputs& in, const Tensor& query_features, const Tensor& key_features) {
  const Tensor products =
      at::matmul(query_features.transpose(1, 2), key_features.transpose(1, 2).transpose(2, 3)) *
      in.mask.unsqueeze(1).unsqueeze(1);
  return at::matmul(products / products.sum(-1, /*keepdim=*/true), in.value.transpose(1, 2))
      .transpose(1, 2);
}

TEST(PerformerAttention, IsItsFormula) {
  const Inputs in = inputs_of({9, 4, 1}, 9);
  const double root = std::pow(static_cast<double>(kWidth), -0.25);
  const auto attention = attention_of({.kind = "performer", .performer = {.num_features = 20}});
  const Tensor directions = attention->buffers()[0];
  const auto features = [&](const Tensor& x) {
    const Tensor y = x * root;
    return (at::matmul(y, directions.t()) - y.square().sum(-1, /*keepdim=*/true) / 2).exp();
  };
  EXPECT_LE(
      difference(run(*attention, in), weighted(in, features(in.query), features(in.key)), in.mask),
      1e-12);
}

TEST(PerformerAttention, IsItsFormulaWithRelu) {
  const Inputs in = inputs_of({9, 4, 1}, 9);
  const double root = std::pow(static_cast<double>(kWidth), -0.25);
  const auto attention = attention_of(
      {.kind = "performer", .performer = {.features = Features::kRelu, .num_features = 20}});
  const auto features = [&](const Tensor& x) {
    return at::matmul(x * root, attention->buffers()[0].t()).clamp_min(0) + 1e-3;
  };
  EXPECT_LE(
      difference(run(*attention, in), weighted(in, features(in.query), features(in.key)), in.mask),
      1e-12);
}

TEST(PerformerAttention, DirectionsAreOrthogonalInBlocksAndAsLongAsNormalOnes) {
  at::manual_seed(2);
  const Tensor w = orthogonal_normals(20, 8).to(at::kDouble);
  ASSERT_EQ(w.sizes(), (at::IntArrayRef{20, 8}));
  for (int64_t first = 0; first < 20; first += 8) {
    const Tensor block = w.narrow(0, first, std::min<int64_t>(8, 20 - first));
    const Tensor products = at::matmul(block, block.t());
    // Float rotations of rows of length 3: 9 times a few 1e-7.
    EXPECT_LE(distance(products, at::diag(products.diagonal())), 1e-5);
  }
  // 4,000 rows: |w|^2 is chi-squared with 8 degrees, of mean 8 and deviation 4: five of 4 / 63.
  EXPECT_NEAR(orthogonal_normals(4000, 8).square().sum(1).mean().item<double>(), 8, 0.32);
}

// E f(q).f(k) = exp(q.k). For independent directions the variance of one product is
// exp(2 q.k) (exp(|q + k|^2) - 1); orthogonal ones have less. Within five deviations of the mean.
TEST(PerformerAttention, FeaturesAreUnbiased) {
  at::manual_seed(4);
  const Tensor q = at::randn({5, 8}, at::kDouble) * 0.3, k = at::randn({5, 8}, at::kDouble) * 0.3;
  constexpr int64_t kDirections = 20000;
  const Tensor w = orthogonal_normals(kDirections, 8).to(at::kDouble);
  const auto logarithm = [&](const Tensor& x) {
    return at::matmul(x, w.t()) - x.square().sum(-1, /*keepdim=*/true) / 2;
  };
  const Tensor mean = (logarithm(q) + logarithm(k)).exp().mean(-1);
  const Tensor dot = (q * k).sum(-1);
  const Tensor variance = (2 * dot).exp() * ((q + k).square().sum(-1).exp() - 1);
  EXPECT_LE(((mean - dot.exp()).abs() / (variance / kDirections).sqrt()).max().item<double>(), 5);
}

TEST(PerformerAttention, ComesCloserToSoftmaxWithMoreFeatures) {
  Inputs in = inputs_of({9}, 9);
  in.query = in.query.detach() * 0.3;  // where one product's variance is below its square
  in.key = in.key.detach() * 0.3;
  const auto error = [&](int64_t features) {
    const auto attention =
        attention_of({.kind = "performer", .performer = {.num_features = features}});
    return (run(*attention, in) - softmax_formula(in)).square().mean().item<double>();
  };
  // Squared errors fall as one over the features, here by 256.
  EXPECT_LT(error(8192), error(32) / 16);
}

TEST(PerformerAttention, StaysFiniteWithLargeInputs) {
  Inputs in = inputs_of({9, 0}, 9, at::kFloat);
  in.query = in.query.detach() * 100;
  in.key = in.key.detach() * 100;
  const auto attention = attention_of({.kind = "performer"}, at::kFloat);
  EXPECT_TRUE(run(*attention, in).isfinite().all().item<bool>());
}

TEST(PerformerAttention, NamesAWrongOption) {
  EXPECT_EQ(error_of([] { attention_of({.kind = "performer", .performer = {.num_features = 0}}); }),
            "attention.performer.num_features is 0, expected at least 1");
  EXPECT_EQ(error_of([] { make_attention({.kind = "performer"}); }),
            "attention.head_width is 0, expected at least 1");
}

}  // namespace
}  // namespace yoso::nn
