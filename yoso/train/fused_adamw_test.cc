// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/fused_adamw.h"

#include <gtest/gtest.h>

#include <vector>

namespace yoso {
namespace {

// Torch has the fused kernel for the CPU too.
TEST(FusedAdamW, TakesTheStepsOfTorchsOwn) {
  at::manual_seed(3);
  const at::Tensor start = at::randn({5, 7}), vector = at::randn({7});
  const auto leaf = [](const at::Tensor& x) { return x.clone().requires_grad_(true); };
  std::vector<at::Tensor> plain{leaf(start), leaf(vector)}, fused{leaf(start), leaf(vector)};
  const auto options = torch::optim::AdamWOptions(1e-2).weight_decay(0.1).betas({0.8, 0.99});
  torch::optim::AdamW one(plain, options);
  FusedAdamW other(fused, options);
  for (int step = 0; step < 20; ++step) {
    const at::Tensor gradient = at::randn({5, 7});
    plain[0].mutable_grad() = gradient.clone();
    fused[0].mutable_grad() = gradient.clone();
    if (step >= 5) {  // the vector has its first gradient later: another count of steps
      plain[1].mutable_grad() = gradient[0].clone();
      fused[1].mutable_grad() = gradient[0].clone();
    }
    one.step();
    other.step();
    // A step of at most about the rate, in float of numbers below 4, rounded some times.
    for (size_t i = 0; i < 2; ++i)
      EXPECT_LE((plain[i] - fused[i]).abs().max().item<double>(), 4 * 8 * (step + 1) * 0x1p-24);
  }
}

}  // namespace
}  // namespace yoso
