// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/layer_norm.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace yoso::nn {
namespace {

using at::Tensor;

// Values and gradients of what is given, in double, and those of torch's own layers.
class LayerNormApart : public ::testing::Test {
 protected:
  LayerNormApart() : norm_(torch::nn::LayerNormOptions({6}).eps(1e-3)) {
    at::manual_seed(4);
    norm_->to(at::kDouble);
    const at::NoGradGuard no_grad;
    norm_->weight.normal_();
    norm_->bias.normal_();
  }

  static Tensor normal(at::IntArrayRef sizes) {
    return at::randn(sizes, at::kDouble).requires_grad_();
  }

  static void expect_equal(const Tensor& apart, const Tensor& whole,
                           const std::vector<Tensor>& inputs) {
    const Tensor grad = at::randn(whole.sizes(), at::kDouble);
    const auto gradients = [&](const Tensor& y) {
      return torch::autograd::grad({y}, inputs, {grad}, /*retain_graph=*/true);
    };
    constexpr double kBound = 1e-12;  // a few hundred roundings of numbers of the order of 10
    EXPECT_LT((apart - whole).abs().max().item<double>(), kBound);
    const auto of_apart = gradients(apart), of_whole = gradients(whole);
    for (size_t i = 0; i < inputs.size(); ++i) {
      EXPECT_LT((of_apart[i] - of_whole[i]).abs().max().item<double>(), kBound) << i;
    }
  }

  torch::nn::LayerNorm norm_;
};

TEST_F(LayerNormApart, IsTheNorm) {
  const Tensor x = normal({3, 5, 6});
  expect_equal(norm_apart(norm_, with_norm(x, 1e-3).unit), norm_(x),
               {x, norm_->weight, norm_->bias});
}

TEST_F(LayerNormApart, IsTheProductOfTheNorm) {
  const Tensor x = normal({3, 5, 6}), weight = normal({4, 6}), bias = normal({4});
  expect_equal(linear_norm_apart(norm_, with_norm(x, 1e-3).unit, weight, bias),
               at::linear(norm_(x), weight, bias), {x, weight, bias, norm_->weight, norm_->bias});
}

// The operator that sums the gradient of the bias takes 1,024 columns at a time.
TEST_F(LayerNormApart, HasAnyNumberOfOutputs) {
  const Tensor x = normal({3, 5, 6}), weight = normal({2100, 6}), bias = normal({2100});
  expect_equal(linear_norm_apart(norm_, with_norm(x, 1e-3).unit, weight, bias),
               at::linear(norm_(x), weight, bias), {weight, bias});
}

TEST_F(LayerNormApart, RefusesDoubleBackward) {
  const Tensor x = normal({3, 6});
  const Tensor sum = norm_apart(norm_, with_norm(x, 1e-3).unit).sum();
  EXPECT_THROW(torch::autograd::grad({sum}, {x}, {}, /*retain_graph=*/true, /*create_graph=*/true),
               c10::Error);
}

TEST_F(LayerNormApart, IsTheNormOfTheSum) {
  const Tensor x = normal({3, 5, 6}), branch = normal({3, 5, 6}), bias = normal({6});
  const Residual sum = add_branch(x, branch, bias, 0, 1e-3);
  const Tensor whole = x + branch + bias;
  expect_equal(sum.sum, whole, {x, branch, bias});
  expect_equal(norm_apart(norm_, sum.unit), norm_(whole),
               {x, branch, bias, norm_->weight, norm_->bias});
  expect_equal(norm_apart(norm_, sum.unit) + sum.sum, norm_(whole) + whole,
               {x, branch, bias, norm_->weight, norm_->bias});
}

TEST_F(LayerNormApart, DropsElementsOfTheBranch) {
  const Tensor x = normal({3, 50, 6}), branch = normal({3, 50, 6}), bias = normal({6});
  const Residual sum = add_branch(x, branch, bias, 0.25, 1e-3);
  const Tensor kept = (sum.sum != x).to(at::kDouble) * (4.0 / 3);
  EXPECT_NEAR(kept.mean().item<double>(), 1, 0.1);  // five deviations of 900 draws
  const Tensor whole = x + kept * (branch + bias);
  expect_equal(norm_apart(norm_, sum.unit) + sum.sum, norm_(whole) + whole, {x, branch, bias});
}

TEST_F(LayerNormApart, IsForGpus) { EXPECT_FALSE(takes_norms_apart(at::zeros({1, 6}))); }

}  // namespace
}  // namespace yoso::nn
