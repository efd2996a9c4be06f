// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/residual_norm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "yoso/cpu/parallel.h"
#include "yoso/ops/backend_testing.h"
#include "yoso/ops/testing.h"

namespace yoso {
namespace {

using namespace yoso::testing;
using ::testing::HasSubstr;

struct NormShape {
  int64_t batch, heads, rows, width;
  Layout layout = Layout::kDense;
  int64_t dropped = 0;
};

std::string name_of(const NormShape& s) {
  return join("B", s.batch, "_H", s.heads, "_N", s.rows, "_W", s.width, "_",
              yoso::testing::name_of(s.layout), "_p", s.dropped);
}
void PrintTo(const NormShape& s, std::ostream* out) { *out << name_of(s); }

constexpr int64_t kSeed = 77;

class ResidualNormTest : public ::testing::TestWithParam<NormShape> {
 protected:
  Buffer rows(DType dtype, uint64_t seed) const {
    const NormShape& s = GetParam();
    Buffer x(dtype, s.batch, s.heads, s.rows, s.width, s.layout);
    if (seed > 0) fill_normal(x, seed);
    return x;
  }
  Buffer columns(DType dtype, uint64_t seed) const {
    Buffer x(dtype, 1, 1, 1, GetParam().width, GetParam().layout);
    if (seed > 0) fill_normal(x, seed);
    return x;
  }
  Buffer scales(DType dtype) const {
    const NormShape& s = GetParam();
    return {accumulator(dtype), s.batch, s.heads, 1, s.rows, s.layout};
  }
  DropoutMask dropout() const { return {.seed = &kSeed, .rate = {GetParam().dropped}}; }
};

// Types that go with each other: of x, of the branch and the norm.
std::vector<std::pair<DType, DType>> type_pairs() {
  std::vector<std::pair<DType, DType>> pairs;
  for (DType x : kFloatTypes) {
    for (DType y : kFloatTypes) {
      if ((x == DType::kFloat64) == (y == DType::kFloat64)) pairs.emplace_back(x, y);
    }
  }
  return pairs;
}

// A sum is within 4 u of its terms' absolute values a (its own additions, the product with 1 / (1 -
// p), that quotient). The mean is within (W + 4) u of mean(a), so a deviation within (W + 9) u of
// m = max(a) + |deviation|. With normal numbers and epsilon = 1 the variance is within 2 (W + 9) u
// m sqrt(variance) + (W + 4) u variance, its root and quotient 4 u more: s is relatively within
// (W + 9) u m s + (W / 2 + 8) u, and s (sum - mean), with |sum - mean| s <= sqrt(W), within
//   s (W + 9) u m + sqrt(W) ((W + 9) u m s + (W / 2 + 10) u).
TEST_P(ResidualNormTest, MatchesReference) {
  for (const auto& [x_dtype, dtype] : type_pairs()) {
    for (bool with_branch : {true, false}) {
      const Buffer x = rows(x_dtype, 1), branch = with_branch ? rows(dtype, 2) : Buffer(),
                   bias = with_branch ? columns(x_dtype, 3) : Buffer();
      Buffer sum = rows(x_dtype, 0), norm = rows(dtype, 0), scale = scales(dtype);
      ResidualNorm a{.x = x.array(),
                     .branch = branch.array(),
                     .bias = bias.array(),
                     .dropout = dropout(),
                     .epsilon = 1,
                     .sum = sum.array(),
                     .norm = norm.array(),
                     .scale = scale.array()};
      backend::residual_norm(a);

      const Buffer wide_x = x.widened(), wide_branch = branch.widened(), wide_bias = bias.widened();
      Buffer wide_sum = wide_x, wide_norm = wide_x, wide_scale = scale.widened();
      a.x = wide_x.array();
      a.branch = wide_branch.array();
      a.bias = wide_bias.array();
      a.sum = wide_sum.array();
      a.norm = wide_norm.array();
      a.scale = wide_scale.array();
      reference::residual_norm(a);

      const auto width = static_cast<double>(x.cols());
      const double u = unit_roundoff(accumulator(dtype));
      Buffer terms = wide_x, norm_bound = wide_x, scale_bound = wide_scale;
      for (int64_t b = 0; b < x.batch(); ++b) {
        for (int64_t h = 0; h < x.heads(); ++h) {
          for (int64_t i = 0; i < x.rows(); ++i) {
            const double s = wide_scale.at(b, h, 0, i);
            double most = 0;
            for (int64_t c = 0; c < x.cols(); ++c) {
              const double rest = std::abs(wide_sum.at(b, h, i, c) - wide_x.at(b, h, i, c));
              const double both =
                  !with_branch || rest == 0
                      ? 0
                      : (std::abs(branch.at(b, h, i, c)) + std::abs(bias.at(0, 0, 0, c))) *
                            dropout().rate.scale<double>();
              terms.set(b, h, i, c, std::abs(x.at(b, h, i, c)) + both);
              most = std::max(most, terms.at(b, h, i, c) + std::sqrt(width) / s);
            }
            const double relative = (width + 9) * most * s + width / 2 + 10;
            scale_bound.set(b, h, 0, i, s * relative);
            for (int64_t c = 0; c < x.cols(); ++c) {
              norm_bound.set(b, h, i, c, s * (width + 9) * most + std::sqrt(width) * relative);
            }
          }
        }
      }
      EXPECT_TRUE(close(sum, wide_sum, terms, 4 * u)) << name_of(x_dtype);
      EXPECT_TRUE(close(scale, wide_scale, scale_bound, u)) << name_of(dtype);
      EXPECT_TRUE(close(norm, wide_norm, norm_bound, u)) << name_of(dtype);
      EXPECT_TRUE(sum.gaps_are_untouched() && norm.gaps_are_untouched() &&
                  scale.gaps_are_untouched());
    }
  }
}

// Two sums of W terms, then s (g - mean - along norm) + sum_grad and the product with 1 / (1 - p):
// within (W + 12) u of s (|g| + mean |g| + |norm| mean |norm g|) + |sum_grad|, times 1 / (1 - p);
// a sum of that over R rows within R u more.
TEST_P(ResidualNormTest, GradientMatchesReference) {
  for (const auto& [x_dtype, dtype] : type_pairs()) {
    for (bool has_sum_grad : {true, false}) {
      const Buffer norm = rows(dtype, 1), norm_grad = rows(dtype, 2),
                   sum_grad = has_sum_grad ? rows(x_dtype, 3) : Buffer();
      Buffer scale = scales(dtype), x_grad = rows(x_dtype, 0), branch_grad = rows(dtype, 0),
             bias_grad = columns(accumulator(dtype), 0);
      scale.fill([](auto, auto, auto, int64_t i) { return 0.5 + double(i % 3); });
      ResidualNormGrad a{.norm = norm.array(),
                         .scale = std::as_const(scale).array(),
                         .sum_grad = sum_grad.array(),
                         .norm_grad = norm_grad.array(),
                         .dropout = dropout(),
                         .x_grad = x_grad.array(),
                         .branch_grad = branch_grad.array(),
                         .bias_grad = bias_grad.array()};
      backend::residual_norm_grad(a);

      const Buffer wide_norm = norm.widened(), wide_scale = scale.widened(),
                   wide_sum_grad = sum_grad.widened(), wide_norm_grad = norm_grad.widened();
      Buffer wide_x = wide_norm, wide_branch = wide_norm, wide_bias = bias_grad.widened();
      a.norm = wide_norm.array();
      a.scale = wide_scale.array();
      a.sum_grad = wide_sum_grad.array();
      a.norm_grad = wide_norm_grad.array();
      a.x_grad = wide_x.array();
      a.branch_grad = wide_branch.array();
      a.bias_grad = wide_bias.array();
      reference::residual_norm_grad(a);

      const auto width = static_cast<double>(norm.cols());
      Buffer magnitude = wide_norm, of_branch = wide_norm, of_bias = bias_grad.widened();
      of_bias.fill([](auto...) { return 0; });
      for (int64_t b = 0; b < norm.batch(); ++b) {
        for (int64_t h = 0; h < norm.heads(); ++h) {
          for (int64_t i = 0; i < norm.rows(); ++i) {
            double mean = 0, along = 0;
            for (int64_t c = 0; c < norm.cols(); ++c) {
              mean += std::abs(norm_grad.at(b, h, i, c)) / width;
              along += std::abs(norm_grad.at(b, h, i, c) * norm.at(b, h, i, c)) / width;
            }
            for (int64_t c = 0; c < norm.cols(); ++c) {
              const double m = scale.at(b, h, 0, i) * (std::abs(norm_grad.at(b, h, i, c)) + mean +
                                                       std::abs(norm.at(b, h, i, c)) * along) +
                               (has_sum_grad ? std::abs(sum_grad.at(b, h, i, c)) : 0);
              magnitude.set(b, h, i, c, m);
              of_branch.set(b, h, i, c, m * dropout().rate.scale<double>());
              of_bias.set(0, 0, 0, c, of_bias.at(0, 0, 0, c) + of_branch.at(b, h, i, c));
            }
          }
        }
      }
      const double u = unit_roundoff(accumulator(dtype));
      const auto count = static_cast<double>(norm.batch() * norm.heads() * norm.rows());
      EXPECT_TRUE(close(x_grad, wide_x, magnitude, (width + 12) * u)) << name_of(x_dtype);
      EXPECT_TRUE(close(branch_grad, wide_branch, of_branch, (width + 12) * u)) << name_of(dtype);
      EXPECT_TRUE(close(bias_grad, wide_bias, of_bias, (width + 12 + count) * u)) << name_of(dtype);
      EXPECT_TRUE(x_grad.gaps_are_untouched() && branch_grad.gaps_are_untouched() &&
                  bias_grad.gaps_are_untouched());
    }
  }
}

TEST_P(ResidualNormTest, ColumnSumsMatchReference) {
  for (DType dtype : kFloatTypes) {
    const Buffer x = rows(dtype, 1), wide = x.widened(), absolute = x.magnitudes();
    Buffer out = columns(accumulator(dtype), 0), expected = out.widened(), magnitude = expected;
    backend::column_sums({x.array(), out.array()});
    reference::column_sums({wide.array(), expected.array()});
    reference::column_sums({absolute.array(), magnitude.array()});
    const auto count = static_cast<double>(x.batch() * x.heads() * x.rows());
    EXPECT_TRUE(close(out, expected, magnitude, count * unit_roundoff(accumulator(dtype))));
    EXPECT_TRUE(out.gaps_are_untouched());
  }
}

constexpr Layout kRowsFirst = Layout::kRowsFirst, kGaps = Layout::kGaps;

// {B, H, N, W, layout, dropped of 65,536}
const NormShape kShapes[] = {
    {1, 1, 0, 4},
    {0, 2, 3, 4},
    {1, 1, 1, 1},
    {1, 2, 2, 3, kGaps, 6554},
    {2, 3, 7, 7, kRowsFirst, 32768},
    {2, 3, 8, 8, kGaps},
    {1, 2, 9, 15, kGaps, 65535},
    {1, 2, 31, 16, kRowsFirst, 6554},
    {2, 1, 127, 32, Layout::kDense, 6554},
    {1, 1, 129, 64, Layout::kDense, 6554},
    {2, 2, 257, 64, kRowsFirst, 1},
    {1, 1, 5, 65, kGaps, 6554},
    {1, 2, 33, 100, kRowsFirst, 6554},
    {1, 1, 300, 192, Layout::kDense, 6554},
    {1, 1, 130, 256, kGaps, 6554},
    {1, 1, 130, 264, Layout::kDense, 6554},
    {1, 1, 9, 768, Layout::kDense, 6554},
    {1, 1, 3, 1024, kGaps, 6554},
    {1, 1, 20000, 8, Layout::kDense, 6554},
    {35000, 2, 1, 3, kRowsFirst},
};

INSTANTIATE_TEST_SUITE_P(Shapes, ResidualNormTest, ::testing::ValuesIn(kShapes),
                         [](const auto& info) { return name_of(info.param); });

// The share of dropped elements is p, in the forward as in the gradient, and these are the same.
TEST(ResidualNorm, DropsTheSameElementsForwardAndBackward) {
  constexpr int64_t kRows = 1000, kWidth = 40, kDropped = 16384;
  Buffer x(DType::kFloat32, 1, 1, kRows, kWidth), branch = x, sum = x, norm = x, grad = x,
                                                  scale(DType::kFloat32, 1, 1, 1, kRows);
  x.fill([](auto...) { return 0; });
  branch.fill([](auto...) { return 3; });
  grad.fill([](auto...) { return 3; });
  const DropoutMask dropout{.seed = &kSeed, .rate = {kDropped}};
  backend::residual_norm({.x = std::as_const(x).array(),
                          .branch = std::as_const(branch).array(),
                          .bias = {},
                          .dropout = dropout,
                          .sum = sum.array(),
                          .norm = norm.array(),
                          .scale = scale.array()});
  Buffer x_grad = x, branch_grad = x, zero = x;
  backend::residual_norm_grad({.norm = std::as_const(norm).array(),
                               .scale = std::as_const(scale).array(),
                               .sum_grad = std::as_const(grad).array(),
                               .norm_grad = std::as_const(zero).array(),
                               .dropout = dropout,
                               .x_grad = x_grad.array(),
                               .branch_grad = branch_grad.array(),
                               .bias_grad = {}});
  EXPECT_TRUE(equal(branch_grad, sum));
  EXPECT_TRUE(equal(x_grad, grad));
  double dropped = 0;
  sum.for_each([&](auto b, auto h, auto i, auto c) {
    const double y = sum.at(b, h, i, c);
    EXPECT_TRUE(y == 0 || y == 4) << y;
    dropped += y == 0;
  });
  // Five deviations of a binomial distribution of 40,000 draws.
  EXPECT_NEAR(dropped, kRows * kWidth / 4.0, 5 * std::sqrt(kRows * kWidth * 3.0 / 16));
}

// The norm, its gradients and the sums of their columns over 1,000 rows, and of the first 128 alone.
TEST(ResidualNorm, AnyNumberOfThreadsGivesTheSameBits) {
  struct Results {
    Buffer sum, norm, scale, x_grad, branch_grad, bias_grad, columns;
  };
  const auto results_of = [](DType dtype, int64_t rows) {
    constexpr int64_t kWidth = 65;
    Buffer all(dtype, 1, 1, 1000, kWidth), x(dtype, 1, 1, rows, kWidth);
    fill_normal(all, 1);
    x.fill([&](auto... at) { return all.at(at...); });
    const Buffer column(accumulator(dtype), 1, 1, 1, kWidth);
    Results r{x, x, {accumulator(dtype), 1, 1, 1, rows}, x, x, column, column};
    const DropoutMask dropout{.seed = &kSeed, .rate = {6554}};
    const ConstArray in = std::as_const(x).array();
    backend::residual_norm({.x = in,
                            .branch = in,
                            .bias = {},
                            .dropout = dropout,
                            .sum = r.sum.array(),
                            .norm = r.norm.array(),
                            .scale = r.scale.array()});
    backend::residual_norm_grad({.norm = std::as_const(r.norm).array(),
                                 .scale = std::as_const(r.scale).array(),
                                 .sum_grad = in,
                                 .norm_grad = in,
                                 .dropout = dropout,
                                 .x_grad = r.x_grad.array(),
                                 .branch_grad = r.branch_grad.array(),
                                 .bias_grad = r.bias_grad.array()});
    backend::column_sums({in, r.columns.array()});
    return r;
  };
  const int64_t threads = cpu::num_threads();
  for (DType dtype : kFloatTypes) {
    cpu::set_num_threads(1);
    const Results one = results_of(dtype, 1000), first = results_of(dtype, 128);
    for (int64_t count : {2, 5}) {
      cpu::set_num_threads(count);
      const Results again = results_of(dtype, 1000);
      for (Buffer Results::*x : {&Results::sum, &Results::norm, &Results::scale, &Results::x_grad,
                                 &Results::branch_grad, &Results::bias_grad, &Results::columns}) {
        EXPECT_TRUE(equal(again.*x, one.*x)) << count << " " << name_of(dtype);
      }
    }
    for (Buffer Results::*x :
         {&Results::sum, &Results::norm, &Results::x_grad, &Results::branch_grad}) {
      (first.*x).for_each([&](auto... at) {
        EXPECT_EQ((first.*x).at(at...), (one.*x).at(at...)) << name_of(dtype);
      });
    }
  }
  cpu::set_num_threads(threads);
}

TEST(ResidualNorm, RefusesByName) {
  Buffer x(DType::kFloat32, 1, 1, 3, 8), wide(DType::kFloat32, 1, 1, 3, 9),
      huge(DType::kFloat32, 1, 1, 1, 1025), scale(DType::kFloat32, 1, 1, 1, 3),
      half_row(DType::kFloat16, 1, 1, 1, 8);
  const auto message = [](auto&& f) -> std::string {
    try {
      f();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  const ConstArray in = std::as_const(x).array(), s = std::as_const(scale).array();
  const ResidualNorm good{.x = in,
                          .branch = {},
                          .bias = {},
                          .dropout = {},
                          .sum = {},
                          .norm = x.array(),
                          .scale = scale.array()};
  EXPECT_EQ(message([&] { good.check(); }), "no error");
  const auto changed = [&](auto&& change) {
    ResidualNorm a = good;
    change(a);
    return message([&] { a.check(); });
  };
  EXPECT_THAT(changed([&](auto& a) { a.branch = wide.array(); }),
              HasSubstr("residual_norm: branch.cols is 9, expected 8"));
  EXPECT_THAT(changed([&](auto& a) { a.x = huge.array(); }),
              HasSubstr("residual_norm: x.cols is 1025, expected 1 to 1024"));
  EXPECT_THAT(changed([](auto& a) { a.scale = {}; }), HasSubstr("scale is null"));
  EXPECT_THAT(changed([](auto& a) { a.epsilon = 0; }), HasSubstr("epsilon is 0"));
  EXPECT_THAT(changed([](auto& a) { a.dropout.rate.dropped = 65536; }),
              HasSubstr("dropped is 65536, expected 0 to 65535"));
  EXPECT_THAT(changed([](auto& a) { a.dropout.rate.dropped = 1; }), HasSubstr("seed is null"));
  EXPECT_THAT(message([&] {
                ColumnSums{in, half_row.array()}.check();
              }),
              HasSubstr("column_sums: out is float16, expected float32 or float64"));
  ResidualNormGrad grad{.norm = in,
                        .scale = s,
                        .sum_grad = {},
                        .norm_grad = std::as_const(wide).array(),
                        .dropout = {},
                        .x_grad = x.array(),
                        .branch_grad = {},
                        .bias_grad = {}};
  EXPECT_THAT(message([&] { grad.check(); }),
              HasSubstr("residual_norm_grad: norm_grad.cols is 9, expected 8"));
}

}  // namespace
}  // namespace yoso
