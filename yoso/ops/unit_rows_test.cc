// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/unit_rows.h"

#include <gtest/gtest.h>

#include "yoso/cpu/parallel.h"
#include "yoso/ops/backend_testing.h"
#include "yoso/ops/testing.h"

namespace yoso {
namespace {

using namespace yoso::testing;

struct RowsShape {
  int64_t batch, heads, rows, width;
  Layout layout = Layout::kDense;
};

std::string name_of(const RowsShape& s) {
  return join("B", s.batch, "_H", s.heads, "_N", s.rows, "_W", s.width, "_",
              yoso::testing::name_of(s.layout));
}
void PrintTo(const RowsShape& s, std::ostream* out) { *out << name_of(s); }

Buffer scales_of(const Buffer& x) {
  return {accumulator(x.dtype()), x.batch(), x.heads(), 1, x.rows(), Layout::kGaps};
}

class UnitRowsTest : public ::testing::TestWithParam<RowsShape> {
 protected:
  Buffer rows(DType dtype, uint64_t seed) const {
    const RowsShape& s = GetParam();
    Buffer x(dtype, s.batch, s.heads, s.rows, s.width, s.layout);
    if (seed > 0) fill_normal(x, seed);
    return x;
  }
};

// The square of the norm is a sum of W terms, all positive, then come a root, a quotient and a
// product: (W / 2 + 4) u relative.
TEST_P(UnitRowsTest, MatchesReference) {
  for (DType dtype : kFloatTypes) {
    for (DType y_dtype : kFloatTypes) {
      if ((dtype == DType::kFloat64) != (y_dtype == DType::kFloat64)) continue;
      const Buffer x = rows(dtype, 1);
      Buffer y = rows(y_dtype, 0), scale = scales_of(x);
      backend::unit_rows({x.array(), y.array(), scale.array()});

      const Buffer wide = x.widened();
      Buffer wide_y = wide, wide_scale = scale.widened();
      reference::unit_rows({wide.array(), wide_y.array(), wide_scale.array()});
      const double bound = (double(x.cols()) / 2 + 4) * unit_roundoff(accumulator(dtype));
      EXPECT_TRUE(close(y, wide_y, wide_y.magnitudes(), bound)) << name_of(dtype);
      EXPECT_TRUE(close(scale, wide_scale, wide_scale, bound)) << name_of(dtype);
      EXPECT_TRUE(y.gaps_are_untouched() && scale.gaps_are_untouched());
    }
  }
}

// x_grad = s (g - y (y . g)): y . g is a sum of W terms, at most |g|, so that the entry's error is
// within (W + 8) u s (|g_c| + |y_c| sum |y g|).
TEST_P(UnitRowsTest, GradientMatchesReference) {
  for (DType dtype : kFloatTypes) {
    for (bool scaled : {true, false}) {
      Buffer x = rows(dtype, 1), scale = scales_of(x), unit = rows(dtype, 0);
      const Buffer y_grad = rows(dtype, 2);
      Buffer x_grad = rows(dtype, 0);
      reference::unit_rows({std::as_const(x).array(), unit.array(), scale.array()});
      // Either x and the scale that makes y of it, or y itself.
      if (!scaled) x = unit;
      const Buffer x_scale = scaled ? scale : Buffer();
      backend::unit_rows_grad({std::as_const(x).array(), x_scale.array(),
                               std::as_const(scale).array(), y_grad.array(), x_grad.array()});

      const Buffer wide_x = x.widened(), wide_scale = scale.widened(), wide_grad = y_grad.widened(),
                   wide_x_scale = x_scale.widened();
      Buffer expected = x_grad.widened();
      reference::unit_rows_grad({wide_x.array(), wide_x_scale.array(), wide_scale.array(),
                                 wide_grad.array(), expected.array()});
      Buffer magnitude = expected;
      for (int64_t b = 0; b < x.batch(); ++b) {
        for (int64_t h = 0; h < x.heads(); ++h) {
          for (int64_t i = 0; i < x.rows(); ++i) {
            const double s = scale.at(b, h, 0, i), to_unit = scaled ? s : 1;
            double along = 0;
            for (int64_t c = 0; c < x.cols(); ++c)
              along += std::abs(to_unit * x.at(b, h, i, c) * y_grad.at(b, h, i, c));
            for (int64_t c = 0; c < x.cols(); ++c) {
              magnitude.set(b, h, i, c,
                            s * (std::abs(y_grad.at(b, h, i, c)) +
                                 std::abs(to_unit * x.at(b, h, i, c)) * along));
            }
          }
        }
      }
      EXPECT_TRUE(close(x_grad, expected, magnitude,
                        double(x.cols() + 8) * unit_roundoff(accumulator(dtype))))
          << name_of(dtype) << (scaled ? " scaled" : " unit");
      EXPECT_TRUE(x_grad.gaps_are_untouched());
    }
  }
}

TEST_P(UnitRowsTest, WorksInPlaceWithoutChangingABit) {
  for (DType dtype : kFloatTypes) {
    const Buffer x = rows(dtype, 1), g = rows(dtype, 2);
    Buffer y = rows(dtype, 0), x_grad = rows(dtype, 0), scale = scales_of(x), in_place = x,
           grad_in_place = g;
    backend::unit_rows({x.array(), y.array(), scale.array()});
    backend::unit_rows({std::as_const(in_place).array(), in_place.array(), {}});
    EXPECT_TRUE(equal(in_place, y)) << name_of(dtype);
    const ConstArray s = std::as_const(scale).array();
    backend::unit_rows_grad({x.array(), s, s, g.array(), x_grad.array()});
    backend::unit_rows_grad(
        {x.array(), s, s, std::as_const(grad_in_place).array(), grad_in_place.array()});
    EXPECT_TRUE(equal(grad_in_place, x_grad)) << name_of(dtype);
  }
}

constexpr Layout kRowsFirst = Layout::kRowsFirst, kGaps = Layout::kGaps;

// {B, H, N, W, layout}
const RowsShape kShapes[] = {
    {1, 1, 0, 4},           {0, 2, 3, 4},          {2, 0, 3, 4},
    {1, 1, 1, 1},           {1, 2, 2, 3, kGaps},   {2, 3, 7, 7, kRowsFirst},
    {2, 3, 8, 8, kGaps},    {1, 2, 9, 15, kGaps},  {1, 2, 31, 16, kRowsFirst},
    {1, 2, 33, 31, kGaps},  {1, 2, 127, 32},       {2, 2, 33, 33, kRowsFirst},
    {1, 2, 31, 64, kGaps},  {1, 2, 9, 65, kGaps},  {1, 2, 7, 100, kRowsFirst},
    {1, 1, 5, 128},         {1, 1, 5, 256, kGaps}, {1, 1, 3, 1000, kGaps},
    {3, 2, 1025, 5, kGaps}, {1, 1, 65537, 2},      {35000, 2, 1, 3, kRowsFirst},
};

INSTANTIATE_TEST_SUITE_P(Shapes, UnitRowsTest, ::testing::ValuesIn(kShapes),
                         [](const auto& info) { return name_of(info.param); });

TEST(UnitRows, EachOutputMayBeAbsent) {
  Buffer x(DType::kFloat32, 1, 2, 9, 5);
  fill_normal(x, 1);
  Buffer y = x, scale = scales_of(x), only_y = x, only_scale = scales_of(x);
  const ConstArray in = std::as_const(x).array();
  for (auto* run : {reference::unit_rows, backend::unit_rows}) {
    run({in, y.array(), scale.array()});
    run({in, only_y.array(), {}});
    run({in, {}, only_scale.array()});
    EXPECT_TRUE(equal(only_y, y));
    EXPECT_TRUE(equal(only_scale, scale));
  }
}

TEST(UnitRows, ZeroRowsStayZeroAndPassNoGradient) {
  for (auto* run : {reference::unit_rows, backend::unit_rows}) {
    for (DType dtype : kFloatTypes) {
      // Row 0 is zero, row 1 shorter than epsilon where the type has such numbers, row 2 ordinary.
      Buffer x(dtype, 1, 1, 3, 9), g(dtype, 1, 1, 3, 9);
      x.fill([](auto, auto, int64_t i, auto) { return i == 0 ? 0.0 : i == 1 ? 1e-14 : 2.0; });
      g.fill([](auto, auto, auto, int64_t c) { return c + 1; });
      Buffer y = x, scale = scales_of(x), x_grad = x;
      run({std::as_const(x).array(), y.array(), scale.array()});
      const ConstArray s = std::as_const(scale).array();
      const UnitRowsGrad grad{std::as_const(x).array(), s, s, std::as_const(g).array(),
                              x_grad.array()};
      run == &backend::unit_rows ? backend::unit_rows_grad(grad) : reference::unit_rows_grad(grad);
      for (int64_t c = 0; c < 9; ++c) {
        EXPECT_EQ(y.at(0, 0, 0, c), 0);
        EXPECT_EQ(x_grad.at(0, 0, 0, c), 0) << name_of(dtype);
        EXPECT_EQ(x_grad.at(0, 0, 1, c), 0) << name_of(dtype);
        EXPECT_LT(std::abs(y.at(0, 0, 1, c)), 0.0101);
        EXPECT_NEAR(y.at(0, 0, 2, c), 1 / 3.0, 1 / 3.0 * 0x1p-8);
      }
      EXPECT_NEAR(x_grad.at(0, 0, 2, 8), (9 - 5) / 6.0, 0x1p-5);
      EXPECT_EQ(scale.at(0, 0, 0, 0), dtype == DType::kFloat64 ? 1e12 : double{1e12f});
    }
  }
}

// The squares of 1e30 and 1e-30 leave the range of float, those of rows do not have to.
TEST(UnitRows, HugeAndTinyRowsBecomeUnitRows) {
  for (DType dtype : {DType::kFloat32, kWidest, DType::kBFloat16}) {
    // 1e-11: the smallest rows with a direction are 1e-12 long.
    for (double size : {1e30, 1e-11, dtype == DType::kFloat64 ? 1e150 : 1e36}) {
      Buffer x(dtype, 1, 1, 3, 33);
      fill_normal(x, 1);
      x.fill([&](auto... at) { return size * x.at(at...); });
      Buffer y = x, scale = scales_of(x);
      backend::unit_rows({std::as_const(x).array(), y.array(), scale.array()});
      for (int64_t i = 0; i < 3; ++i) {
        double square = 0, in_square = 0;
        for (int64_t c = 0; c < 33; ++c) {
          square += y.at(0, 0, i, c) * y.at(0, 0, i, c);
          in_square += std::pow(x.at(0, 0, i, c) / size, 2);
        }
        EXPECT_NEAR(square, 1, 4 * unit_roundoff(dtype) + 40 * 0x1p-24) << size << name_of(dtype);
        EXPECT_NEAR(scale.at(0, 0, 0, i) * size * std::sqrt(in_square), 1, 40 * 0x1p-24) << size;
      }
    }
  }
}

TEST(UnitRows, TinyRowsKeepTheirDirection) {
  for (auto* run : {reference::unit_rows, backend::unit_rows}) {
    Buffer x(DType::kFloat32, 1, 1, 1, 33);
    fill_normal(x, 1);
    x.fill([&](auto... at) { return 1e-30 * x.at(at...); });
    Buffer y = x;
    run({std::as_const(x).array(), y.array(), {}});
    // Divided by epsilon, not by the norm.
    Buffer expected = x.widened();
    expected.fill([&](auto... at) { return x.at(at...) * 1e12; });
    EXPECT_TRUE(close(y, expected, expected.magnitudes(), 4 * 0x1p-24));
  }
}

// d(w . y)/dx by central differences in double.
TEST(UnitRows, GradientIsTheDerivative) {
  if (kOnGpu) GTEST_SKIP() << "differences need float64, which the GPU does not take";
  Buffer x(DType::kFloat64, 1, 1, 2, 7), w(DType::kFloat64, 1, 1, 2, 7), x_grad = x,
                                                                         scale = scales_of(x);
  fill_normal(x, 1);
  fill_normal(w, 2);
  const auto value = [&](const Buffer& at_x) {
    Buffer y = at_x;
    backend::unit_rows({at_x.array(), y.array(), scale.array()});
    double sum = 0;
    y.for_each([&](auto... at) { sum += w.at(at...) * y.at(at...); });
    return sum;
  };
  value(x);
  const ConstArray s = std::as_const(scale).array();
  backend::unit_rows_grad(
      {std::as_const(x).array(), s, s, std::as_const(w).array(), x_grad.array()});
  Buffer moved = x;
  x.for_each([&](auto... at) {
    const double step = 1e-5;
    moved.set(at..., x.at(at...) + step);
    const double right = value(moved);
    moved.set(at..., x.at(at...) - step);
    const double left = value(moved);
    moved.set(at..., x.at(at...));
    // The third derivative times step^2, and rounding of u / step.
    EXPECT_NEAR(x_grad.at(at...), (right - left) / (2 * step), 1e-8);
  });
}

TEST(UnitRows, AnyNumberOfThreadsGivesTheSameBits) {
  const int64_t threads = cpu::num_threads();
  for (DType dtype : kFloatTypes) {
    Buffer x(dtype, 2, 3, 1025, 33, kRowsFirst);
    fill_normal(x, 1);
    Buffer one = x, again = x;
    for (int64_t count : {1, 2, 5}) {
      cpu::set_num_threads(count);
      backend::unit_rows({std::as_const(x).array(), (count == 1 ? one : again).array(), {}});
      if (count > 1) {
        EXPECT_TRUE(equal(again, one)) << count << " " << name_of(dtype);
      }
    }
  }
  cpu::set_num_threads(threads);
}

TEST(UnitRowsCheck, SaysWhatIsWrong) {
  const struct {
    std::string message;
    void (*spoil)(UnitRows&);
  } kMistakes[] = {
      {"no error", [](UnitRows&) {}},
      {"unit_rows: x.cols is 0, expected at least 1", [](UnitRows& a) { a.x.cols = 0; }},
      {"unit_rows: x is uint8, expected a floating type",
       [](UnitRows& a) { a.x.dtype = DType::kUint8; }},
      {"unit_rows: x is null, expected an array", [](UnitRows& a) { a.x.data = nullptr; }},
      {"unit_rows: y.batch is 2, expected 1", [](UnitRows& a) { a.y.batch = 2; }},
      {"unit_rows: y.heads is 3, expected 2", [](UnitRows& a) { a.y.heads = 3; }},
      {"unit_rows: y.rows is 4, expected 3", [](UnitRows& a) { a.y.rows = 4; }},
      {"unit_rows: y.cols is 5, expected 4", [](UnitRows& a) { a.y.cols = 5; }},
      {"unit_rows: y is float64, expected a type that goes with float32",
       [](UnitRows& a) { a.y.dtype = DType::kFloat64; }},
      {"unit_rows: scale is float16, expected float32",
       [](UnitRows& a) { a.scale.dtype = DType::kFloat16; }},
      {"unit_rows: scale.rows is 2, expected 1", [](UnitRows& a) { a.scale.rows = 2; }},
      {"unit_rows: scale.cols is 4, expected 3", [](UnitRows& a) { a.scale.cols = 4; }},
  };
  for (const auto& mistake : kMistakes) {
    for (auto* run : {reference::unit_rows, backend::unit_rows}) {
      Buffer x(DType::kFloat32, 1, 2, 3, 4), y = x, scale = scales_of(x);
      UnitRows a{std::as_const(x).array(), y.array(), scale.array()};
      fill_normal(x, 1);
      mistake.spoil(a);
      EXPECT_EQ(error_of([&] { run(a); }), mistake.message);
      EXPECT_EQ(std::isnan(y.at(0, 0, 0, 0)), mistake.message != "no error");
    }
  }
}

TEST(UnitRowsGradCheck, SaysWhatIsWrong) {
  const struct {
    std::string message;
    void (*spoil)(UnitRowsGrad&);
  } kMistakes[] = {
      {"no error", [](UnitRowsGrad&) {}},
      {"x.cols is 0, expected at least 1", [](UnitRowsGrad& a) { a.x.cols = 0; }},
      {"x is uint16, expected a floating type",
       [](UnitRowsGrad& a) { a.x.dtype = DType::kUint16; }},
      {"x_scale.cols is 4, expected 3", [](UnitRowsGrad& a) { a.x_scale.cols = 4; }},
      {"x_scale is float64, expected float32",
       [](UnitRowsGrad& a) { a.x_scale.dtype = DType::kFloat64; }},
      {"scale is null, expected the scale of unit_rows",
       [](UnitRowsGrad& a) { a.scale.data = nullptr; }},
      {"scale.heads is 1, expected 2", [](UnitRowsGrad& a) { a.scale.heads = 1; }},
      {"y_grad.rows is 4, expected 3", [](UnitRowsGrad& a) { a.y_grad.rows = 4; }},
      {"y_grad is null, expected an array", [](UnitRowsGrad& a) { a.y_grad.data = nullptr; }},
      {"x_grad.cols is 5, expected 4", [](UnitRowsGrad& a) { a.x_grad.cols = 5; }},
      {"x_grad is float64, expected a type that goes with float32",
       [](UnitRowsGrad& a) { a.x_grad.dtype = DType::kFloat64; }},
      {"x_grad is null, expected an array", [](UnitRowsGrad& a) { a.x_grad.data = nullptr; }},
  };
  for (const auto& mistake : kMistakes) {
    for (auto* run : {reference::unit_rows_grad, backend::unit_rows_grad}) {
      Buffer x(DType::kFloat32, 1, 2, 3, 4), x_grad = x, scale = scales_of(x);
      scale.fill([](auto...) { return 1; });
      fill_normal(x, 1);
      const ConstArray s = std::as_const(scale).array(), in = std::as_const(x).array();
      UnitRowsGrad a{in, s, s, in, x_grad.array()};
      mistake.spoil(a);
      const bool wrong = mistake.message != "no error";
      EXPECT_EQ(error_of([&] { run(a); }), (wrong ? "unit_rows_grad: " : "") + mistake.message);
      EXPECT_EQ(std::isnan(x_grad.at(0, 0, 0, 0)), wrong);
    }
  }
}

}  // namespace
}  // namespace yoso
