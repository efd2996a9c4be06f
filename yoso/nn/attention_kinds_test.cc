// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <limits>

#include "yoso/core/testing.h"
#include "yoso/nn/attention.h"
#include "yoso/torch/attention.h"

namespace yoso::nn {
namespace {

using at::Tensor;
using ::testing::ElementsAre;

// [B, N, H, D], the first lengths[b] tokens real.
struct Inputs {
  Tensor query, key, value, mask;
};

Inputs inputs_of(std::vector<int64_t> lengths, int64_t tokens) {
  at::manual_seed(5);
  const int64_t batch = static_cast<int64_t>(lengths.size());
  const auto random = [&] { return at::randn({batch, tokens, 2, 8}).requires_grad_(true); };
  Inputs in{.query = random(), .key = random(), .value = random(), .mask = {}};
  in.mask = at::arange(tokens).unsqueeze(0) < at::tensor(lengths).unsqueeze(1);
  return in;
}

AttentionConfig config_of(const std::string& kind) {
  AttentionConfig config{.kind = kind, .heads = 2};
  config.yoso.seed = 3;
  return config;
}

TEST(AttentionKinds, AreListedSorted) {
  EXPECT_THAT(attention_kinds(), ElementsAre("none", "softmax", "yoso"));
}

TEST(AttentionKinds, UnknownOneIsRefusedWithTheKnownOnes) {
  EXPECT_EQ(error_of([] { make_attention(config_of("performer")); }),
            "attention.kind is 'performer', expected one of none, softmax, yoso");
}

TEST(AttentionKinds, MaskedTokensHaveNoEffectOnRealOnes) {
  for (const std::string& kind : attention_kinds()) {
    const auto attention = make_attention(config_of(kind));
    const Inputs in = inputs_of({6, 4, 0}, 6);
    const Tensor out = attention->forward(in.query, in.key, in.value, in.mask);
    const Tensor masked = in.mask.logical_not().unsqueeze(-1).unsqueeze(-1);
    const Tensor other = attention->forward(in.query, in.key.masked_fill(masked, 100),
                                            in.value.masked_fill(masked, 100), in.mask);
    EXPECT_TRUE(at::equal(out.masked_fill(masked, 0), other.masked_fill(masked, 0))) << kind;
  }
}

TEST(AttentionKinds, SequencesWithoutARealTokenGiveFiniteRowsAndGradients) {
  for (const std::string& kind : attention_kinds()) {
    const Inputs in = inputs_of({3, 0}, 5);
    const Tensor out =
        make_attention(config_of(kind))->forward(in.query, in.key, in.value, in.mask);
    EXPECT_TRUE(out.isfinite().all().item<bool>()) << kind;
    out.sum().backward();
    for (const Tensor& x : {in.query, in.key, in.value}) {
      if (!x.grad().defined()) continue;
      EXPECT_TRUE(x.grad().isfinite().all().item<bool>()) << kind;
    }
  }
}

TEST(AttentionKinds, NonePassesValuesThrough) {
  const Inputs in = inputs_of({4}, 4);
  EXPECT_TRUE(at::equal(
      make_attention(config_of("none"))->forward(in.query, in.key, in.value, in.mask), in.value));
}

TEST(AttentionKinds, SoftmaxIsItsFormula) {
  const Inputs in = inputs_of({5, 3}, 5);
  const Tensor out =
      make_attention(config_of("softmax"))->forward(in.query, in.key, in.value, in.mask);
  const auto heads_first = [](const Tensor& x) { return x.transpose(1, 2).to(at::kDouble); };
  const Tensor scores =
      at::matmul(heads_first(in.query), heads_first(in.key).transpose(2, 3)) / std::sqrt(8.0);
  const Tensor hidden = in.mask.logical_not().unsqueeze(1).unsqueeze(1);
  const Tensor weights =
      scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()).softmax(-1);
  const Tensor expected = at::matmul(weights, heads_first(in.value)).transpose(1, 2);
  // Float sums of 8 products and of 5 weighted values, all below 10.
  EXPECT_LE((out - expected).abs().max().item<double>(), 1e-5);
}

TEST(AttentionKinds, YosoIsYosoAttention) {
  const Inputs in = inputs_of({5, 3}, 5);
  AttentionConfig config = config_of("yoso");
  config.yoso.mode = Mode::kSampled;
  EXPECT_TRUE(at::equal(make_attention(config)->forward(in.query, in.key, in.value, in.mask),
                        yoso_attention({.query = in.query,
                                        .key = in.key,
                                        .value = in.value,
                                        .query_mask = in.mask,
                                        .key_mask = in.mask},
                                       config.yoso)));
}

TEST(AttentionKinds, YosoDrawsNewCodesUnlessSeeded) {
  const Inputs in = inputs_of({40}, 40);
  AttentionConfig config = config_of("yoso");
  config.yoso.mode = Mode::kSampled;
  const auto twice_equal = [&](Attention& attention) {
    attention.eval();
    return at::equal(attention.forward(in.query, in.key, in.value, in.mask),
                     attention.forward(in.query, in.key, in.value, in.mask));
  };
  EXPECT_TRUE(twice_equal(*make_attention(config)));
  config.yoso.seed.reset();
  EXPECT_FALSE(twice_equal(*make_attention(config)));
}

TEST(AttentionKinds, YosoLearnsItsConvolution) {
  AttentionConfig config = config_of("yoso");
  config.conv_width = 3;
  const auto attention = make_attention(config);
  ASSERT_EQ(attention->parameters().size(), 1u);
  EXPECT_EQ(attention->parameters()[0].sizes(), (at::IntArrayRef{2, 3}));
  const Inputs in = inputs_of({4}, 4);
  attention->forward(in.query, in.key, in.value, in.mask).sum().backward();
  EXPECT_GT(attention->parameters()[0].grad().abs().sum().item<double>(), 0);
  config.conv_width = 4;
  EXPECT_EQ(error_of([&] { make_attention(config); }),
            "attention.conv_width is 4, expected 0 or an odd number");
}

}  // namespace
}  // namespace yoso::nn
