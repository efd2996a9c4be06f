// SPDX-License-Identifier: Apache-2.0
#include <ATen/autocast_mode.h>
#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "yoso/core/testing.h"
#include "yoso/nn/attention_testing.h"
#include "yoso/torch/attention.h"

namespace yoso::nn {
namespace {

using at::Tensor;
using ::testing::ElementsAre;

// Options so small that nine tokens are many.
AttentionConfig config_of(const std::string& kind) {
  AttentionConfig config{.kind = kind, .heads = kHeads, .head_width = kWidth, .max_length = 2048};
  config.yoso.seed = 3;
  config.nystrom = {.landmarks = 3, .conv_width = 3};
  config.skein.samples = 3;
  config.performer.num_features = 11;
  config.linformer.rank = 5;
  config.longformer = {.window = 4, .global_tokens = 2};
  config.bigbird = {.block = 2, .window_blocks = 1, .global_blocks = 1, .random_blocks = 2};
  config.reformer.chunk = 2;
  config.race = {.tables = 3, .planes = 2};
  return config;
}

// Kinds that run in double on the device of the test.
std::vector<std::string> kinds_in_double() {
  std::vector<std::string> kinds = attention_kinds();
  if (test_device().is_cuda()) std::erase(kinds, "yoso");  // double on the CPU only
  return kinds;
}

TEST(AttentionKinds, AreListedSorted) {
  EXPECT_THAT(attention_kinds(),
              ElementsAre("bigbird", "linear", "linformer", "longformer", "none", "nystrom",
                          "performer", "race", "reformer", "skein", "softmax", "yoso"));
}

TEST(AttentionKinds, UnknownOneIsRefusedWithTheKnownOnes) {
  EXPECT_EQ(error_of([] { make_attention(config_of("sparse")); }),
            "attention.kind is 'sparse', expected one of bigbird, linear, linformer, longformer, "
            "none, nystrom, performer, race, reformer, skein, softmax, yoso");
}

TEST(AttentionKinds, PackedTokensHaveTheRowsOfPaddedOnesOrAreRefused) {
  for (const std::string& kind : attention_kinds()) {
    const auto attention = attention_of(config_of(kind), at::kFloat);
    const Inputs in = inputs_of({6, 4, 9, 0}, 9, at::kFloat);
    const RealTokens real(in.mask, 25);
    const auto packed = [&] {
      const auto rows = [&](const Tensor& x) {
        return real.pack(x.flatten(2)).unflatten(-1, {kHeads, kWidth});
      };
      return attention->attend_packed(rows(in.query), rows(in.key), rows(in.value), real);
    };
    if (!attention->takes_packed(test_device())) {
      EXPECT_EQ(
          error_of(packed),
          "attention: packed tokens are given, expected padded ones: takes_packed() is false");
      continue;
    }
    const Tensor padded = real.pack(run(*attention, in).flatten(2));
    EXPECT_TRUE(at::equal(packed().flatten(1).narrow(0, 0, 19), padded.narrow(0, 0, 19))) << kind;
  }
}

TEST(AttentionKinds, MaskedTokensHaveNoEffectOnRealOnes) {
  for (const std::string& kind : attention_kinds()) {
    const auto attention = attention_of(config_of(kind), at::kFloat);
    Inputs in = inputs_of({6, 4, 9, 0}, 9, at::kFloat);
    in.mask[2][0] = in.mask[2][5] = false;  // no prefix
    const Tensor out = run(*attention, in);
    const Tensor masked = in.mask.logical_not().unsqueeze(-1).unsqueeze(-1);
    Inputs other = in;
    for (Tensor* x : {&other.query, &other.key, &other.value}) *x = x->masked_fill(masked, 100);
    EXPECT_TRUE(
        at::equal(out.masked_fill(masked, 0), run(*attention, other).masked_fill(masked, 0)))
        << kind;
  }
}

// Sums with zeros behind them are sums of the same numbers, in another order where torch's products
// are cut otherwise: in double 1e-16 for each of some ten numbers, and a thousand times that behind
// a pseudo-inverse.
TEST(AttentionKinds, ASequenceGivesTheSameAloneAndPaddedInABatch) {
  for (const std::string& kind : kinds_in_double()) {
    const auto attention = attention_of(config_of(kind));
    const Inputs in = inputs_of({9, 5, 1, 13}, 17);
    const Tensor out = run(*attention, in);
    for (int64_t b = 0; b < 4; ++b) {
      const Tensor one = run(*attention, alone(in, b));
      const Tensor padded = out.narrow(0, b, 1).narrow(1, 0, one.size(1));
      EXPECT_LE((one - padded).abs().max().item<double>(), 1e-12) << kind << ", sequence " << b;
    }
  }
}

TEST(AttentionKinds, SequencesWithoutARealTokenGiveFiniteRowsAndGradients) {
  for (const std::string& kind : attention_kinds()) {
    const Inputs in = inputs_of({8, 0}, 9, at::kFloat);
    const auto attention = attention_of(config_of(kind), at::kFloat);
    const Tensor out = run(*attention, in);
    EXPECT_TRUE(out.isfinite().all().item<bool>()) << kind;
    out.sum().backward();
    for (const Tensor& x : {in.query, in.key, in.value}) {
      if (!x.grad().defined()) continue;
      EXPECT_TRUE(x.grad().isfinite().all().item<bool>()) << kind;
    }
    for (const Tensor& x : attention->parameters())
      EXPECT_TRUE(x.grad().isfinite().all().item<bool>()) << kind;
  }
}

TEST(AttentionKinds, TakeAnyLengthWithTheirPapersOptions) {
  for (const std::string& kind : attention_kinds()) {
    const auto attention = attention_of({.kind = kind}, at::kFloat);
    for (const int64_t tokens : {0, 1, 2, 7, 8, 9, 31, 33, 100, 1023, 1025}) {
      Inputs in = inputs_of({tokens}, tokens, at::kFloat);
      const Tensor out = run(*attention, in);
      ASSERT_EQ(out.sizes(), in.value.sizes()) << kind << ' ' << tokens;
      EXPECT_TRUE(out.isfinite().all().item<bool>()) << kind << ' ' << tokens;
      in.mask = Tensor();
      // No mask is a mask of true: the same operations but for kernels that torch chooses by it.
      EXPECT_TRUE(at::allclose(out, run(*attention, in), 1e-4, 1e-5)) << kind << ' ' << tokens;
    }
  }
}

TEST(AttentionKinds, GradientsAreThoseOfFiniteDifferences) {
  for (const std::string& kind : kinds_in_double()) {
    AttentionConfig config = config_of(kind);
    config.yoso.mode = Mode::kExpected;
    config.yoso.gradient = Gradient::kTrue;
    const auto attention = attention_of(config);
    EXPECT_LE(gradient_error(*attention, inputs_of({9, 5, 0}, 11)), 1e-7) << kind;
  }
}

TEST(AttentionKinds, TheSameDrawsGiveTheSameBits) {
  for (const std::string& kind : attention_kinds()) {
    const auto attention = attention_of(config_of(kind), at::kFloat);
    const Inputs in = inputs_of({40, 33}, 40, at::kFloat);
    EXPECT_TRUE(at::equal(run(*attention, in), run(*attention, in))) << kind;
  }
}

// bfloat16 has 8 bits, of projections and of results; what they do to what is selected by size
// (buckets, samples) is not bounded, so the draws that select are compared by being finite alone.
TEST(AttentionKinds, RunUnderAutocast) {
  for (const std::string& kind : attention_kinds()) {
    const auto attention = attention_of(config_of(kind), at::kFloat);
    Inputs in = inputs_of({40, 33}, 40, at::kFloat);
    for (Tensor* x : {&in.query, &in.key, &in.value}) *x = x->detach().to(at::kBFloat16);
    for (Tensor* x : {&in.query, &in.key, &in.value}) x->requires_grad_(true);
    const at::DeviceType device = test_device().type();
    at::autocast::set_autocast_enabled(device, true);
    at::autocast::set_autocast_dtype(device, at::kBFloat16);
    const Tensor out = run(*attention, in);
    at::autocast::set_autocast_enabled(device, false);
    EXPECT_TRUE(out.isfinite().all().item<bool>()) << kind;
    out.sum().backward();
    EXPECT_TRUE(in.value.grad().isfinite().all().item<bool>()) << kind;
  }
}

TEST(AttentionKinds, NonePassesValuesThrough) {
  const Inputs in = inputs_of({4}, 4);
  EXPECT_TRUE(at::equal(run(*attention_of(config_of("none")), in), in.value));
}

TEST(AttentionKinds, SoftmaxIsItsFormula) {
  const Inputs in = inputs_of({5, 3}, 5);
  // Sums of 8 products and of 5 weighted values, all below 10, in double.
  EXPECT_LE(difference(run(*attention_of(config_of("softmax")), in), softmax_formula(in), in.mask),
            1e-13);
}

TEST(AttentionKinds, YosoIsYosoAttention) {
  const Inputs in = inputs_of({5, 3}, 5, at::kFloat);
  AttentionConfig config = config_of("yoso");
  config.yoso.mode = Mode::kSampled;
  EXPECT_TRUE(
      at::equal(run(*attention_of(config, at::kFloat), in), yoso_attention({.query = in.query,
                                                                            .key = in.key,
                                                                            .value = in.value,
                                                                            .query_mask = in.mask,
                                                                            .key_mask = in.mask},
                                                                           config.yoso)));
}

TEST(AttentionKinds, YosoDrawsNewCodesUnlessSeeded) {
  const Inputs in = inputs_of({40}, 40, at::kFloat);
  AttentionConfig config = config_of("yoso");
  config.yoso.mode = Mode::kSampled;
  const auto twice_equal = [&](Attention& attention) {
    attention.eval();
    return at::equal(attention.forward(in.query, in.key, in.value, in.mask),
                     attention.forward(in.query, in.key, in.value, in.mask));
  };
  EXPECT_TRUE(twice_equal(*attention_of(config, at::kFloat)));
  config.yoso.seed.reset();
  EXPECT_FALSE(twice_equal(*attention_of(config, at::kFloat)));
}

TEST(AttentionKinds, YosoLearnsItsConvolution) {
  AttentionConfig config = config_of("yoso");
  config.conv_width = 3;
  const auto attention = attention_of(config, at::kFloat);
  ASSERT_EQ(attention->parameters().size(), 1u);
  EXPECT_EQ(attention->parameters()[0].sizes(), (at::IntArrayRef{2, 3}));
  const Inputs in = inputs_of({4}, 4, at::kFloat);
  attention->forward(in.query, in.key, in.value, in.mask).sum().backward();
  EXPECT_GT(attention->parameters()[0].grad().abs().sum().item<double>(), 0);
  config.conv_width = 4;
  EXPECT_EQ(error_of([&] { make_attention(config); }),
            "attention.conv_width is 4, expected 0 or an odd number");
}

}  // namespace
}  // namespace yoso::nn
