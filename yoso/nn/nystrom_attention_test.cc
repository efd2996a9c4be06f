// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/nystrom_attention.h"

#include <gmock/gmock.h>

#include "yoso/core/testing.h"
#include "yoso/nn/attention_testing.h"

namespace yoso::nn {
namespace {

using at::Tensor;

Tensor matrix(std::vector<double> numbers) {
  return at::tensor(numbers, at::kDouble).view({2, 2}).to(test_device());
}
double distance(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

// [[.6, .4], [.3, .7]]: Z_0 = A' / 1.1; the residual after each iteration by the scalar map that
// its eigenvalues go through, checked by hand.
TEST(PseudoInverse, HasTheGoldenNumbers) {
  const Tensor a = matrix({.6, .4, .3, .7}), one = matrix({1, 0, 0, 1});
  EXPECT_LE(distance(pseudo_inverse(a, 0), matrix({.6 / 1.1, .3 / 1.1, .4 / 1.1, .7 / 1.1})),
            1e-15);
  const double residuals[] = {.760623, .413721, .0604351, 1.68885e-4, 3.61e-12};
  for (int64_t i = 0; i < 5; ++i) {
    const double got = (at::matmul(a, pseudo_inverse(a, i + 1)) - one).norm().item<double>();
    EXPECT_NEAR(got, residuals[i], 5e-6 * residuals[i] + 1e-14) << i + 1;  // six digits are given
  }
  // 1/lambda = 10/3 times a few roundings.
  EXPECT_LE(distance(pseudo_inverse(a, 6), matrix({7. / 3, -4. / 3, -1, 2})), 1e-14);
}

TEST(PseudoInverse, OfAMatrixDoesNotDependOnItsBatch) {
  const Tensor a = matrix({.6, .4, .3, .7}), large = matrix({60, 4, 3, 70});
  const Tensor both = pseudo_inverse(at::stack({a, large}), 6);
  EXPECT_TRUE(at::equal(both[0], pseudo_inverse(at::stack({a, a}), 6)[0]));
}

TEST(PseudoInverse, ComesCloserWithEveryIteration) {
  at::manual_seed(1);
  const Tensor a = at::randn({3, 12, 12}, at::kDouble).softmax(-1).to(test_device());
  const Tensor one = at::eye(12, a.options());
  double before = std::numeric_limits<double>::infinity();
  for (int64_t i = 0; i <= 12; ++i) {
    const double residual = (at::matmul(a, pseudo_inverse(a, i)) - one).norm().item<double>();
    EXPECT_LT(residual, before) << i;
    before = residual;
  }
}

// The formula for one sequence and head: q, k, v [n, D], n > m real tokens.
Tensor formula(const Tensor& q, const Tensor& k, const Tensor& v, int64_t m, int64_t iterations) {
  const int64_t n = q.size(0);
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(1)));
  Tensor q_marks = at::zeros({m, q.size(1)}, q.options()), k_marks = at::zeros_like(q_marks);
  Tensor sizes = at::zeros({m, 1}, q.options());
  for (int64_t i = 0; i < n; ++i) {
    const int64_t mark = i * m / n;
    q_marks[mark] += q[i];
    k_marks[mark] += k[i];
    sizes[mark] += 1;
  }
  q_marks = q_marks / sizes;
  k_marks = k_marks / sizes;
  const Tensor f = (at::matmul(q, k_marks.t()) * scale).softmax(-1);
  const Tensor a = (at::matmul(q_marks, k_marks.t()) * scale).softmax(-1);
  const Tensor b = (at::matmul(q_marks, k.t()) * scale).softmax(-1);
  return at::matmul(at::matmul(at::matmul(f, pseudo_inverse(a, iterations)), b), v);
}

TEST(NystromAttention, IsItsFormula) {
  const at::NoGradGuard no_grad;
  const Inputs in = inputs_of({13, 12, 5}, 14);
  const auto attention =
      attention_of({.kind = "nystrom", .nystrom = {.landmarks = 4, .conv_width = 0}});
  const Tensor out = run(*attention, in);
  for (int64_t b = 0; b < 3; ++b) {
    const Inputs one = alone(in, b);
    for (int64_t h = 0; h < kHeads; ++h) {
      const auto head = [&](const Tensor& x) { return x[0].select(1, h); };
      const Tensor expected = formula(head(one.query), head(one.key), head(one.value), 4, 6);
      const Tensor got = out[b].select(1, h).narrow(0, 0, expected.size(0));
      EXPECT_LE(distance(got, expected), 1e-12) << b << ' ' << h;  // a thousand roundings
    }
  }
}

TEST(NystromAttention, IsSoftmaxWithALandmarkForEveryToken) {
  const Inputs in = inputs_of({9, 4, 1}, 9);
  const auto attention =
      attention_of({.kind = "nystrom", .nystrom = {.landmarks = 9, .conv_width = 0}});
  EXPECT_LE(difference(run(*attention, in), softmax_formula(in), in.mask), 1e-13);
}

// Also where only some sequences of a batch are so short.
TEST(NystromAttention, IsSoftmaxInSequencesAsShortAsTheLandmarksAreMany) {
  const Inputs in = inputs_of({5, 14}, 14);
  const auto attention =
      attention_of({.kind = "nystrom", .nystrom = {.landmarks = 5, .conv_width = 0}});
  const Tensor far = (run(*attention, in) - softmax_formula(in)).abs();
  EXPECT_LE(far[0].narrow(0, 0, 5).max().item<double>(), 1e-13);
  EXPECT_GT(far[1].max().item<double>(), 1e-3);
}

TEST(NystromAttention, AddsTheConvolutionOfRealValues) {
  const at::NoGradGuard no_grad;
  const Inputs in = inputs_of({9, 6}, 9);
  const auto with = attention_of({.kind = "nystrom", .nystrom = {.landmarks = 4, .conv_width = 5}});
  const auto without =
      attention_of({.kind = "nystrom", .nystrom = {.landmarks = 4, .conv_width = 0}});
  const Tensor weight = with->parameters()[0];
  ASSERT_EQ(weight.sizes(), (at::IntArrayRef{kHeads, 5}));
  Tensor expected = run(*without, in).clone();
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t n = 0; n < 9; ++n)
      for (int64_t t = 0; t < 5; ++t) {
        const int64_t from = n + t - 2;
        if (from < 0 || from >= 9 || !in.mask[b][from].item<bool>()) continue;
        expected[b][n] += weight.select(1, t).unsqueeze(1) * in.value[b][from];
      }
  EXPECT_LE(difference(run(*with, in), expected, in.mask), 1e-13);
}

TEST(NystromAttention, NamesAWrongOption) {
  const auto message = [](NystromOptions options) {
    return error_of([&] { attention_of({.kind = "nystrom", .nystrom = options}); });
  };
  EXPECT_EQ(message({.landmarks = 0}), "attention.nystrom.landmarks is 0, expected at least 1");
  EXPECT_EQ(message({.iterations = -1}), "attention.nystrom.iterations is -1, expected at least 0");
  EXPECT_EQ(message({.conv_width = 4}),
            "attention.nystrom.conv_width is 4, expected 0 or an odd number");
}

}  // namespace
}  // namespace yoso::nn
