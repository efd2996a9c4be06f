// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/real_tokens.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace yoso::nn {
namespace {

using at::Tensor;

Tensor mask_of(std::initializer_list<std::initializer_list<bool>> rows) {
  std::vector<Tensor> masks;
  for (const auto& row : rows) {
    Tensor mask = at::empty({static_cast<int64_t>(row.size())}, at::kBool);
    std::copy(row.begin(), row.end(), mask.mutable_data_ptr<bool>());
    masks.push_back(mask);
  }
  return at::stack(masks);
}

const Tensor& some() {  // a gap, a tail, a sequence that begins late, one without a real token
  static const Tensor mask = mask_of({{true, false, true, false},
                                      {true, true, false, false},
                                      {false, false, false, true},
                                      {false, false, false, false}});
  return mask;
}

TEST(RealTokens, PacksThemInOrder) {
  const Tensor x = at::arange(4 * 4 * 3).view({4, 4, 3}).to(at::kDouble);
  const Tensor packed = RealTokens(some()).pack(x);
  EXPECT_TRUE(at::equal(packed, x.view({16, 3}).index({at::tensor({0, 2, 4, 5, 11})})));
}

TEST(RealTokens, SpreadIsTheInverse) {
  const RealTokens real(some());
  const Tensor x = at::randn({4, 4, 3}), back = real.spread(real.pack(x));
  EXPECT_EQ(back.sizes(), x.sizes());
  EXPECT_TRUE(at::equal(back.index({some()}), x.index({some()})));
  EXPECT_TRUE(at::isfinite(back).all().item<bool>());
}

// Of padding: zeros from pack, none through spread.
TEST(RealTokens, GradientsAreThoseOfRealTokens) {
  const RealTokens real(some());
  const Tensor x = at::randn({4, 4, 3}).requires_grad_(), grad = at::randn({5, 3});
  real.pack(x).backward(grad);
  EXPECT_TRUE(at::equal(x.grad().index({some()}), grad));
  EXPECT_TRUE(at::equal(x.grad().index({some().logical_not()}), at::zeros({11, 3})));
  const Tensor rows = at::randn({5, 3}).requires_grad_(), out_grad = at::randn({4, 4, 3});
  real.spread(rows).backward(out_grad);
  EXPECT_TRUE(at::equal(rows.grad(), out_grad.index({some()})));
}

TEST(RealTokens, WithLittlePaddingOrNothingElseAllStayWhereTheyAre) {
  const Tensor x = at::randn({1, 5, 3});
  for (const Tensor& mask : {mask_of({{true, true, true, true, true}}),
                             at::zeros({1, 5}, at::kBool), at::ones({0, 5}, at::kBool)}) {
    const RealTokens real(mask);
    EXPECT_TRUE(real.pack(x).is_same(x));
    EXPECT_TRUE(real.spread(x).is_same(x));
  }
  EXPECT_TRUE(RealTokens().pack(x).is_same(x));
  EXPECT_FALSE(RealTokens(mask_of({{true, true, true, true, false}})).pack(x).is_same(x));
}

}  // namespace
}  // namespace yoso::nn
