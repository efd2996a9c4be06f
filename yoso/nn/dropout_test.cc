// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/dropout.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

namespace yoso::nn {
namespace {

TEST(Dropout, DropsTheShareAndKeepsTheMean) {
  at::manual_seed(1);
  Dropout dropout(0.25);
  constexpr int64_t kSize = 1'000'003;
  const at::Tensor y = dropout(at::ones({kSize}));
  const double dropped = (y == 0).sum().item<double>() / kSize;
  EXPECT_NEAR(dropped, 0.25, 4 * std::sqrt(0.25 * 0.75 / kSize));  // 4 deviations
  EXPECT_TRUE(((y == 0) | ((y - 4.0 / 3).abs() < 1e-6)).all().item<bool>());
}

TEST(Dropout, NeighboursAreIndependent) {
  at::manual_seed(2);
  const at::Tensor kept = (Dropout(0.5)(at::ones({1 << 20})) > 0).to(at::kDouble) - 0.5;
  for (int64_t lag = 1; lag <= 16; ++lag) {
    const at::Tensor product = kept.slice(0, 0, -lag) * kept.slice(0, lag);
    EXPECT_NEAR(product.mean().item<double>(), 0, 4 * 0.25 / std::sqrt(1 << 20)) << lag;
  }
}

TEST(Dropout, TheGradientHasTheSameMask) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({37, 29}).transpose(0, 1).requires_grad_();
  const at::Tensor y = Dropout(0.3)(x);
  y.sum().backward();
  EXPECT_TRUE(at::allclose(x.grad() * x, y));
  EXPECT_GT((y == 0).sum().item<int64_t>(), 0);
}

TEST(Dropout, ThreadsDoNotMatterAndDrawsDiffer) {
  const int threads = at::get_num_threads();
  const at::Tensor x = at::ones({100'000});
  Dropout dropout(0.1);
  at::manual_seed(4);
  at::set_num_threads(1);
  const at::Tensor one = dropout(x), next = dropout(x);
  at::manual_seed(4);
  at::set_num_threads(3);
  const at::Tensor three = dropout(x);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one, three));
  EXPECT_FALSE(at::equal(one, next));
}

TEST(Dropout, EvaluationAndProbabilityZeroChangeNothing) {
  const at::Tensor x = at::randn({5});
  EXPECT_TRUE(Dropout(0.0)(x).is_same(x));
  Dropout dropout(0.5);
  dropout->eval();
  EXPECT_TRUE(dropout(x).is_same(x));
}

TEST(Dropout, KeepsTheType) {
  for (const auto type : {at::kDouble, at::kBFloat16, at::kHalf})
    EXPECT_EQ(Dropout(0.5)(at::ones({9}, type)).scalar_type(), type);
}

}  // namespace
}  // namespace yoso::nn
