// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/real_tokens.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "yoso/core/testing.h"

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

constexpr int64_t kReal = 5;

// As a CPU counts them, and with the room that a bound leaves.
std::vector<RealTokens> ways() {
  return {RealTokens(some()), RealTokens(some(), kReal + 1), RealTokens(some(), 12)};
}

TEST(RealTokens, PacksThemInOrderAndPaddingAfterThem) {
  const Tensor x = at::arange(4 * 4 * 3).view({4, 4, 3}).to(at::kDouble), rows = x.view({16, 3});
  const Tensor real = rows.index({at::tensor({0, 2, 4, 5, 11})});
  for (const RealTokens& way : ways()) {
    const Tensor packed = way.pack(x);
    EXPECT_TRUE(at::equal(packed.narrow(0, 0, kReal), real));
    EXPECT_TRUE(at::equal(packed[kReal], rows[1]));
  }
  EXPECT_EQ(RealTokens(some(), 12).pack(x).size(0), 12);
  EXPECT_EQ(RealTokens(some()).pack(x).size(0), kReal + 1);
}

TEST(RealTokens, OffsetsSayWhereSequencesBegin) {
  for (const RealTokens& way : ways()) {
    EXPECT_TRUE(at::equal(way.offsets(), at::tensor({0, 2, 4, 5, 5}, at::kLong)));
    EXPECT_EQ(way.longest(), 4);
  }
}

TEST(RealTokens, ABoundThatDoesNotHoldIsRefused) {
  for (const int64_t bound : {kReal, int64_t{0}, int64_t{-3}}) {
    EXPECT_EQ(error_of([&] { RealTokens(some(), bound); }),
              join("encoder: real_below is ", bound, ", expected more than the real tokens, 5"));
  }
}

TEST(RealTokens, PacksWhatEverySequenceHas) {
  const Tensor x = at::randn({1, 4, 3});
  for (const RealTokens& way : ways()) {
    EXPECT_TRUE(at::equal(way.pack(x), way.pack(x.expand({4, 4, 3}))));
  }
}

TEST(RealTokens, SpreadIsTheInverse) {
  const Tensor x = at::randn({4, 4, 3});
  for (const RealTokens& way : ways()) {
    const Tensor back = way.spread(way.pack(x));
    EXPECT_EQ(back.sizes(), x.sizes());
    EXPECT_TRUE(at::equal(back.index({some()}), x.index({some()})));
    EXPECT_TRUE(at::isfinite(back).all().item<bool>());
  }
}

// Of padding: zeros from pack, none through spread.
TEST(RealTokens, GradientsAreThoseOfRealTokens) {
  for (const RealTokens& way : ways()) {
    const Tensor x = at::randn({4, 4, 3}).requires_grad_();
    const Tensor every = at::randn({1, 4, 3}).requires_grad_();
    const Tensor packed = way.pack(x), of_every = way.pack(every);
    Tensor grad = at::randn(packed.sizes());
    grad.slice(0, kReal).zero_();
    packed.backward(grad);
    EXPECT_TRUE(at::equal(x.grad().index({some()}), grad.narrow(0, 0, kReal)));
    EXPECT_TRUE(at::equal(x.grad().index({some().logical_not()}), at::zeros({11, 3})));
    of_every.backward(grad);
    EXPECT_TRUE(at::equal(every.grad(), x.grad().sum(0, /*keepdim=*/true)));

    const Tensor rows = at::randn(packed.sizes()).requires_grad_();
    const Tensor out_grad = at::randn({4, 4, 3});
    way.spread(rows).backward(out_grad);
    EXPECT_TRUE(at::equal(rows.grad().narrow(0, 0, kReal), out_grad.index({some()})));
    EXPECT_EQ(rows.grad().slice(0, kReal).count_nonzero().item<int64_t>(), 0);
  }
}

TEST(RealTokens, ThereMayBeNone) {
  const Tensor none = at::zeros({2, 3}, at::kBool), x = at::randn({2, 3, 1});
  for (const RealTokens& way : {RealTokens(none), RealTokens(none, 3)}) {
    EXPECT_TRUE(at::isfinite(way.spread(way.pack(x))).all().item<bool>());
  }
}

TEST(RealTokens, WithLittlePaddingAllStayWhereTheyAre) {
  const Tensor x = at::randn({1, 5, 3});
  const Tensor four_of_six = mask_of({{true, true, true, true, false, false}});
  for (const RealTokens& real :
       {RealTokens(), RealTokens(mask_of({{true, true, true, true, false}})),
        RealTokens(four_of_six), RealTokens(four_of_six, 5),
        RealTokens(at::ones({0, 5}, at::kBool)), RealTokens(at::ones({2, 0}, at::kBool))}) {
    EXPECT_TRUE(real.pack(x).is_same(x));
    EXPECT_TRUE(real.spread(x).is_same(x));
  }
}

}  // namespace
}  // namespace yoso::nn
