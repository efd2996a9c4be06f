// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "yoso/core/testing.h"
#include "yoso/nn/attention_testing.h"
#include "yoso/nn/draws.h"

namespace yoso::nn {
namespace {

using at::Tensor;

Tensor skein(const Inputs& in, int64_t samples, uint64_t seed = 9) {
  return run(
      *attention_of({.kind = "skein", .skein = {.samples = samples}}, in.query.scalar_type()), in,
      seed);
}

// The header's formula for one sequence and head, q, k, v [n, D] with n > d, by loops; the noise is
// that of the streams: pilots 0, columns 1.
Tensor formula(const Tensor& q, const Tensor& k, const Tensor& v, int64_t d, int64_t seed,
               int64_t head) {
  const int64_t n = q.size(0);
  const Tensor logits = at::matmul(q, k.t()) / std::sqrt(static_cast<double>(q.size(1)));
  const Tensor softmax = logits.softmax(-1);
  const Tensor pilot = Draws{seed, 0, at::kCPU}.uniforms(head + 1, d)[head];
  std::vector<int64_t> pilots;
  Tensor squares = at::zeros({n}, q.options());
  for (int64_t i = 0; i < d; ++i) {
    pilots.push_back(static_cast<int64_t>(pilot[i].item<double>() * static_cast<double>(n)));
    squares += softmax[pilots.back()].square();
  }
  const Tensor weights = squares.sqrt() * v.norm(2, -1);
  const Tensor noise = Draws{seed, 1, at::kCPU}.uniforms(head + 1, n)[head].to(q.options());
  const Tensor columns =
      std::get<1>((weights.log() - noise.log().neg().log()).sort(0, /*descending=*/true))
          .narrow(0, 0, d);

  Tensor out = at::zeros_like(v);
  for (int64_t i = 0; i < n; ++i) {
    const Tensor mine = logits[i].index_select(0, columns);
    const Tensor g = mine.mean().exp();
    const Tensor others = v.sum(0) - v.index_select(0, columns).sum(0);
    out[i] = (at::matmul(mine.exp(), v.index_select(0, columns)) + g * others) /
             (mine.exp().sum() + (n - d) * g);
  }
  for (const int64_t i : pilots) out[i] = at::matmul(softmax[i], v);
  return out;
}

TEST(SkeinAttention, IsItsFormula) {
  const at::NoGradGuard no_grad;
  const Inputs in = inputs_of({13, 9}, 14);
  const auto attention = attention_of({.kind = "skein", .skein = {.samples = 4, .seed = 6}});
  const Tensor out = run(*attention, in);
  for (int64_t b = 0; b < 2; ++b) {
    const Inputs one = alone(in, b);
    for (int64_t h = 0; h < kHeads; ++h) {
      const auto head = [&](const Tensor& x) { return x[0].select(1, h); };
      const Tensor expected = formula(head(one.query), head(one.key), head(one.value), 4, 6, h);
      const Tensor got = out[b].select(1, h).narrow(0, 0, expected.size(0));
      EXPECT_LE((got - expected).abs().max().item<double>(), 1e-13) << b << ' ' << h;
    }
  }
}

TEST(SkeinAttention, IsSoftmaxWithEveryColumn) {
  const Inputs in = inputs_of({9, 5, 1}, 9);
  EXPECT_LE(difference(skein(in, 9), softmax_formula(in), in.mask), 1e-13);
  EXPECT_LE(difference(skein(in, 256), softmax_formula(in), in.mask), 1e-13);
}

// A value of zero has no weight in the sampling, and is sampled last.
TEST(SkeinAttention, IsSoftmaxWithEveryColumnAlsoWhereValuesAreZero) {
  Inputs in = inputs_of({9, 5}, 9);
  in.value = in.value.detach().clone();
  in.value.narrow(1, 1, 3).zero_();
  EXPECT_LE(difference(skein(in, 9), softmax_formula(in), in.mask), 1e-13);
}

TEST(SkeinAttention, IsExactForEvenAttentionWithAnyNumberOfColumns) {
  Inputs in = inputs_of({13, 7}, 13);
  in.key = at::zeros_like(in.key);
  for (const int64_t samples : {1, 2, 5})
    EXPECT_LE(difference(skein(in, samples), softmax_formula(in), in.mask), 1e-14) << samples;
}

// The weight of what is not sampled is no number of 16 bits: log 100 is off by 0.011 there. Half of
// the tokens, which have all of the weight in the sampling, have value 1, and the others 0: 1/2 comes
// out within the rounding of the result and that of the weights, 2^-9 of it each.
TEST(SkeinAttention, CountsWhatIsNotSampledIn16Bits) {
  Inputs in = inputs_of({200}, 200, at::kBFloat16);
  in.key = at::zeros_like(in.key);
  in.value = at::zeros_like(in.value);
  in.value.narrow(1, 40, 100).fill_(1);
  const at::NoGradGuard no_grad;
  const Tensor out = skein(in, 100).to(at::kDouble);
  EXPECT_LE((out - 0.5).abs().max().item<double>(), 0x1p-9);
}

// Each pilot row equals softmax's; without reuse hardly any does.
TEST(SkeinAttention, PilotRowsAreExact) {
  const Inputs in = inputs_of({40}, 40);
  const auto attention = attention_of({.kind = "skein", .skein = {.samples = 4, .seed = 6}});
  const Tensor far = (run(*attention, in) - softmax_formula(in)).abs().amax(-1);  // [1, N, H]
  const Tensor share = Draws{6, 0, test_device()}.uniforms(kHeads, 4).to(at::kDouble);
  const Tensor pilots = (share * 40).to(at::kLong);
  for (int64_t h = 0; h < kHeads; ++h) {
    const Tensor mine = far[0].select(1, h);
    EXPECT_LE(mine.index_select(0, pilots[h]).max().item<double>(), 1e-13);
    EXPECT_LE((mine < 1e-9).sum().item<int64_t>(), 4);
  }
}

TEST(SkeinAttention, ComesCloserToSoftmaxWithMoreColumns) {
  const Inputs in = inputs_of({64}, 64);
  double before = std::numeric_limits<double>::infinity();
  for (const int64_t samples : {4, 16, 48}) {
    double error = 0;  // of 16 draws: a mean that falls by more than a draw's deviation
    for (uint64_t seed = 0; seed < 16; ++seed)
      error += (skein(in, samples, seed) - softmax_formula(in)).square().mean().item<double>();
    EXPECT_LT(error, before) << samples;
    before = error;
  }
}

TEST(SkeinAttention, StaysFiniteWithLogitsOfAHundred) {
  Inputs in = inputs_of({40, 13}, 40, at::kFloat);
  in.query = (in.query.detach() * 40).requires_grad_(true);  // logits up to some 200
  const Tensor out = skein(in, 4);
  EXPECT_TRUE(out.isfinite().all().item<bool>());
  out.sum().backward();
  for (const Tensor& x : {in.query, in.key, in.value})
    EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
}

TEST(SkeinAttention, DrawsAnewUnlessSeeded) {
  const Inputs in = inputs_of({40}, 40);
  EXPECT_FALSE(at::equal(skein(in, 4, 1), skein(in, 4, 2)));
  const auto seeded = attention_of({.kind = "skein", .skein = {.samples = 4, .seed = 6}});
  EXPECT_TRUE(at::equal(run(*seeded, in, 1), run(*seeded, in, 2)));
}

TEST(SkeinAttention, NamesAWrongOption) {
  EXPECT_EQ(error_of([] { skein(inputs_of({3}, 3), 0); }),
            "attention.skein.samples is 0, expected at least 1");
}

// Entries are functions of their place: a longer row goes on with the same ones.
TEST(Draws, AreTheSameInLongerRowsAndMoreOfThem) {
  const Draws draws{5, 2, at::kCPU};
  EXPECT_TRUE(
      at::equal(draws.uniforms(2, 5), draws.uniforms(3, 11).narrow(0, 0, 2).narrow(1, 0, 5)));
  EXPECT_TRUE(at::equal(draws.normals(2, 5), draws.normals(3, 11).narrow(0, 0, 2).narrow(1, 0, 5)));
  EXPECT_FALSE(at::equal(draws.uniforms(2, 5), (Draws{5, 3, at::kCPU}.uniforms(2, 5))));
}

// 40,000 of each: means within five deviations, 1/sqrt(12 n) and 1/sqrt(n).
TEST(Draws, AreUniformAndNormal) {
  const Draws draws{5, 2, at::kCPU};
  const Tensor uniforms = draws.uniforms(40, 1000), normals = draws.normals(40, 1000);
  EXPECT_NEAR(uniforms.mean().item<double>(), 0.5, 5 / std::sqrt(12 * 40000.0));
  EXPECT_GT(uniforms.min().item<double>(), 0);
  EXPECT_LT(uniforms.max().item<double>(), 1);
  EXPECT_NEAR(normals.mean().item<double>(), 0, 5 / std::sqrt(40000.0));
  EXPECT_NEAR(normals.square().mean().item<double>(), 1, 5 * std::sqrt(2 / 40000.0));
}

}  // namespace
}  // namespace yoso::nn
