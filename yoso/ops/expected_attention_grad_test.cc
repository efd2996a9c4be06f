// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/expected_attention_grad.h"

#include <cmath>
#include <functional>
#include <numbers>

#include "yoso/cpu/parallel.h"
#include "yoso/ops/backend_testing.h"
#include "yoso/ops/expected_attention_testing.h"

namespace yoso {
namespace {

using namespace testing;  // NOLINT: yoso::testing

struct Grads {
  Buffer queries, keys, values;

  explicit Grads(const Inputs& in, Layout layout = Layout::kDense)
      : queries(like(in.queries, layout)),
        keys(like(in.keys, layout)),
        values(like(in.values, layout)) {}

  ExpectedAttentionGrad args(const Inputs& in, double code_bits, Gradient gradient) {
    return {in.queries.array(),
            in.keys.array(),
            in.query_scale.array(),
            in.key_scale.array(),
            in.values.array(),
            in.out_grad.array(),
            queries.array(),
            keys.array(),
            values.array(),
            code_bits,
            gradient,
            in.query_side.rows(),
            in.key_side.rows()};
  }

 private:
  static Buffer like(const Buffer& x, Layout layout) {
    return {x.dtype(), x.batch(), x.heads(), x.rows(), x.cols(), layout};
  }
};

Grads run(const Inputs& in, double code_bits, Gradient gradient) {
  Grads grads(in);
  backend::expected_attention_grad(grads.args(in, code_bits, gradient));
  return grads;
}

constexpr Gradient kGradients[] = {Gradient::kSurrogate, Gradient::kTrue};

// T = 9, exact arithmetic.
struct Golden {
  double x, slope, lower;
};
constexpr Golden kGolden[] = {{0, .0111906, .00878906},
                              {.5, .129072, .117055},
                              {.9, 1.90224, 1.11547},
                              {.99, 14.0443, 2.97183}};

TEST(CollisionSlope, MatchesGoldenNumbers) {
  for (const Golden& golden : kGolden) {
    EXPECT_NEAR(reference::collision_slope(golden.x, 9), golden.slope, 6e-6 * golden.slope);
  }
}

TEST(CollisionSlope, IsTheDerivativeOfTheProbability) {
  for (const double code_bits : {0.5, 1.0, 2.0, 8.0, 9.5}) {
    for (double x = -0.99; x < 0.995; x += 0.01) {
      const double h = 1e-6;
      const double difference = (reference::collision_probability(x + h, code_bits) -
                                 reference::collision_probability(x - h, code_bits)) /
                                (2 * h);
      EXPECT_NEAR(reference::collision_slope(x, code_bits), difference, 1e-7 * difference + 1e-9);
    }
  }
}

TEST(CollisionSlope, IsAboveTheSurrogateByTheKnownRatio) {
  for (const double code_bits : {0.5, 1.0, 8.0, 9.5}) {
    for (int k = -10000; k <= 10000; ++k) {
      const double x = k / 10000.0, angle = std::acos(x);
      const double slope = reference::collision_slope(x, code_bits);
      const double lower = code_bits / 2 * reference::collision_probability(x, code_bits);
      ASSERT_TRUE(std::isfinite(slope));
      ASSERT_LE(lower, slope) << x;
      if (1 - x * x > kSlopeFloor && lower > 0) {
        const double ratio = (std::numbers::pi - angle) * std::sin(angle) / 2;
        ASSERT_NEAR(lower / slope, ratio, 1e-9) << x;
      }
    }
  }
}

TEST(ExpectedAttentionGrad, SlopesOfOnePairMatchGoldenNumbers) {
  for (const DType dtype : {DType::kFloat32, kWidest}) {
    for (const Golden& golden : kGolden) {
      Inputs in({.width = 2}, dtype, Scales::kAbsent);
      in.queries.fill([](int64_t, int64_t, int64_t, int64_t c) { return c == 0; });
      in.keys.fill([&](int64_t, int64_t, int64_t, int64_t c) {
        return c == 0 ? golden.x : std::sqrt(1 - golden.x * golden.x);
      });
      in.values.fill([](int64_t, int64_t, int64_t, int64_t) { return 1; });
      in.out_grad.fill([](int64_t, int64_t, int64_t, int64_t) { return 1; });
      // key_grad = s q, and q = (1, 0).
      EXPECT_NEAR(run(in, 9, Gradient::kTrue).keys.at(0, 0, 0, 0), golden.slope,
                  8e-6 * golden.slope);
      EXPECT_NEAR(run(in, 9, Gradient::kSurrogate).keys.at(0, 0, 0, 0), golden.lower,
                  8e-6 * golden.lower);
    }
  }
}

// Bounds in float: three terms of at most 4, with the errors of expect_worked_example.
template <class T>
void expect_worked_example(void (*run)(const ExpectedAttentionGrad&)) {
  const T r2 = static_cast<T>(std::sqrt(0.5)), r5 = static_cast<T>(std::sqrt(0.2));
  const T queries[] = {1, 0, r2, r2, 0, 1};
  const T keys[] = {1, 0, -r2, r2, r5, 2 * r5};
  const T values[] = {1, 0, 0, 1, 2, -1};
  const T out_grad[] = {1, 0, 0, 1, 1, 1};
  const double golden_queries[] = {2.3145997720,  .6291995439, -.6689450766,
                                   -1.0727251103, .1497624359, 1.3919229016};
  const double golden_keys[] = {2, .125, .0883883476, .7212008476, -.2144743114, .1379941186};
  const double golden_values[] = {1.0625,    .37890625,   .3203125,
                                  .37890625, .7038340719, 1.1770496083};
  const double allowed = sizeof(T) == 8 ? 1e-10 : 2e-5;
  T query_grad[6], key_grad[6], value_grad[6];
  run({.queries = dense(queries, 1, 1, 3, 2),
       .keys = dense(keys, 1, 1, 3, 2),
       .values = dense(values, 1, 1, 3, 2),
       .out_grad = dense(out_grad, 1, 1, 3, 2),
       .query_grad = dense(query_grad, 1, 1, 3, 2),
       .key_grad = dense(key_grad, 1, 1, 3, 2),
       .value_grad = dense(value_grad, 1, 1, 3, 2),
       .code_bits = 4});
  for (int k = 0; k < 6; ++k) {
    EXPECT_NEAR(query_grad[k], golden_queries[k], allowed) << k;
    EXPECT_NEAR(key_grad[k], golden_keys[k], allowed) << k;
    EXPECT_NEAR(value_grad[k], golden_values[k], allowed) << k;
  }
}

TEST(ExpectedAttentionGrad, MatchesTheWorkedExample) {
  expect_worked_example<double>(reference::expected_attention_grad);
  expect_worked_example<Widest>(backend::expected_attention_grad);
}

// Adds to `bounds` what a kernel may be wrong by.
void add_bounds(const Inputs& wide, const Precision& exact, double code_bits, Gradient gradient,
                Grads& bounds) {
  const double u = exact.u;
  const int64_t width = wide.queries.cols(), value_width = wide.values.cols();
  const double shared = wide.keys.heads() ? double(wide.queries.heads() / wide.keys.heads()) : 1;
  const auto slope = [&](double x, double bits) {
    return gradient == Gradient::kTrue ? reference::collision_slope(x, bits)
                                       : bits / 2 * reference::collision_probability(x, bits);
  };
  for_each_pair(wide, [&](int64_t b, int64_t h, int64_t g, int64_t i, int64_t j) {
    const Cosine x = cosine(wide, u, b, h, g, i, j);
    const PairError pair{x.error, exact};
    const double* out_grad = wide.out_grad.array().row<double>(b, h, i);
    const double* value = wide.values.array().row<double>(b, g, j);
    // A value_grad element sums Nq shared terms p G, a query_grad element Nk terms s k, where
    // s = slope (G.v) and G.v itself sums V terms.
    const double sums =
        exact.roundings(wide.queries.rows()) * shared + exact.roundings(wide.keys.rows());
    const double weight = reference::collision_probability(x.value, code_bits);
    const double weight_error =
        pair.of(x.value, code_bits, reference::collision_probability) + sums * u * weight;
    double product = 0, magnitude = 0;
    for (int64_t v = 0; v < value_width; ++v) {
      bounds.values.array().row<double>(b, g, j)[v] += weight_error * std::abs(out_grad[v]);
      product += out_grad[v] * value[v];
      magnitude += std::abs(out_grad[v] * value[v]);
    }
    const double s = slope(x.value, code_bits), s_error = pair.of(x.value, code_bits, slope);
    // Tensor cores multiply s, up to its factor T/2 or T/pi, with rows of half that are up to twice
    // as long as unit rows.
    const double error = s_error * std::abs(product) +
                         (s + s_error) * (1 + exact.factor) * double(value_width) * u * magnitude +
                         sums * u * s * std::abs(product) + code_bits * exact.smallest;
    const double query_scale = wide.query_scale.absent() ? 1 : wide.query_scale.at(b, h, 0, i);
    const double key_scale = wide.key_scale.absent() ? 1 : wide.key_scale.at(b, g, 0, j);
    const double* query = wide.queries.array().row<double>(b, h, i);
    const double* key = wide.keys.array().row<double>(b, g, j);
    for (int64_t c = 0; c < width; ++c) {
      bounds.queries.array().row<double>(b, h, i)[c] += error * key_scale * std::abs(key[c]);
      bounds.keys.array().row<double>(b, g, j)[c] += error * query_scale * std::abs(query[c]);
    }
  });
}

class ExpectedAttentionGradTable : public ::testing::TestWithParam<Shape> {};

TEST_P(ExpectedAttentionGradTable, MatchesReference) {
  const Shape shape = GetParam();
  const auto zero = [](int64_t, int64_t, int64_t, int64_t) { return 0; };
  for (const DType dtype : kFloatTypes) {
    const Scales scales = dtype == DType::kBFloat16 ? Scales::kAbsent : Scales::kPresent;
    const Inputs inputs(shape, dtype, scales), wide = inputs.widened();
    for (const Gradient gradient : kGradients) {
      for (const double code_bits : powers(shape, dtype)) {
        Grads grads(inputs, shape.layout), expected(wide), bounds(wide);
        backend::expected_attention_grad(grads.args(inputs, code_bits, gradient));
        reference::expected_attention_grad(expected.args(wide, code_bits, gradient));
        for (Buffer* x : {&bounds.queries, &bounds.keys, &bounds.values}) x->fill(zero);
        add_bounds(wide, precision(shape, dtype), code_bits, gradient, bounds);
        const auto matches = [&](Buffer Grads::*grad) {
          EXPECT_TRUE((grads.*grad).gaps_are_untouched());
          return within(grads.*grad, expected.*grad,
                        [&](int64_t b, int64_t h, int64_t i, int64_t c) {
                          return (bounds.*grad).at(b, h, i, c);
                        });
        };
        SCOPED_TRACE(join(name_of(dtype), ", T = ", code_bits,
                          gradient == Gradient::kTrue ? ", true" : ", surrogate"));
        ASSERT_TRUE(matches(&Grads::queries)) << "query_grad";
        ASSERT_TRUE(matches(&Grads::keys)) << "key_grad";
        ASSERT_TRUE(matches(&Grads::values)) << "value_grad";
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, ExpectedAttentionGradTable,
                         ::testing::ValuesIn(expected_attention_shapes()), shape_name);

double loss(const Inputs& in, double code_bits) {
  Buffer out(DType::kFloat64, in.queries.batch(), in.queries.heads(), in.queries.rows(),
             in.values.cols());
  backend::expected_attention(in.forward(out, code_bits));
  double sum = 0;
  out.for_each([&](int64_t b, int64_t h, int64_t i, int64_t v) {
    if (in.query_side.is_real(b, i)) sum += in.out_grad.at(b, h, i, v) * out.at(b, h, i, v);
  });
  return sum;
}

TEST(ExpectedAttentionGrad, TrueGradientIsTheDerivativeOfTheForward) {
  if (kWidest != DType::kFloat64) GTEST_SKIP() << "differences need double";
  for (const double code_bits : {1.0, 8.0, 2.5}) {
    Inputs in({.query_heads = 4,
               .key_heads = 2,
               .queries = 6,
               .keys = 7,
               .width = 5,
               .value_width = 3,
               .mask = Mask::kRandom},
              DType::kFloat64, Scales::kAbsent);
    // Without the keys that lie on a query: there the slope is not the derivative.
    fill_unit(in.keys, 12);
    const Grads grads = run(in, code_bits, Gradient::kTrue);
    const auto check = [&](Buffer& x, const Buffer& grad) {
      x.for_each([&](int64_t b, int64_t h, int64_t i, int64_t c) {
        const double value = x.at(b, h, i, c), step = 1e-6;
        x.set(b, h, i, c, value + step);
        const double above = loss(in, code_bits);
        x.set(b, h, i, c, value - step);
        const double below = loss(in, code_bits);
        x.set(b, h, i, c, value);
        // Third derivatives of the loss stay below 1e5 at these cosines: step^2 / 6 of them, and
        // the rounding of the loss over the step.
        EXPECT_NEAR(grad.at(b, h, i, c), (above - below) / (2 * step), 1e-7);
      });
    };
    check(in.queries, grads.queries);
    check(in.keys, grads.keys);
    check(in.values, grads.values);
  }
}

TEST(ExpectedAttentionGrad, IsFiniteForParallelOppositeAndZeroRows) {
  for (const DType dtype : kFloatTypes) {
    for (const Gradient gradient : kGradients) {
      for (const double code_bits : {0.25, 1.0, 2.0, 8.0}) {
        Inputs in({.queries = 3, .keys = 3, .width = 4, .value_width = 2}, dtype, Scales::kAbsent);
        const auto rows = [](int64_t, int64_t, int64_t i, int64_t c) {
          return c > 0 || i == 2 ? 0 : i == 0 ? 1 : -1;
        };
        in.queries.fill(rows);
        in.keys.fill(rows);
        const Grads grads = run(in, code_bits, gradient);
        for (const Buffer* x : {&grads.queries, &grads.keys, &grads.values}) {
          x->for_each([&](int64_t b, int64_t h, int64_t i, int64_t c) {
            EXPECT_TRUE(std::isfinite(x->at(b, h, i, c)));
          });
        }
        // A parallel pair has weight 1, an opposite one 0, and a zero row half a bit of chance.
        EXPECT_NEAR(
            grads.values.at(0, 0, 0, 0),
            in.out_grad.at(0, 0, 0, 0) + std::pow(0.5, code_bits) * in.out_grad.at(0, 0, 2, 0),
            4 * unit_roundoff(dtype) * 4);
      }
    }
  }
}

void expect_equal(const Grads& got, const Grads& expected) {
  EXPECT_TRUE(equal(got.queries, expected.queries));
  EXPECT_TRUE(equal(got.keys, expected.keys));
  EXPECT_TRUE(equal(got.values, expected.values));
}

// One thread sums a sequence in one pass, many threads cut it up.
TEST(ExpectedAttentionGrad, HasTheSameBitsForAnyNumberOfThreads) {
  const int64_t threads = cpu::num_threads();
  for (const DType dtype : {DType::kFloat32, kWidest}) {
    const Inputs inputs({.batch = 2,
                         .query_heads = 2,
                         .queries = 500,
                         .keys = 450,
                         .width = 20,
                         .value_width = 12,
                         .mask = Mask::kRandom},
                        dtype, Scales::kPresent);
    for (const Gradient gradient : kGradients) {
      cpu::set_num_threads(1);
      const Grads once = run(inputs, 8, gradient);
      for (const int64_t other : {2, 5}) {
        cpu::set_num_threads(other);
        SCOPED_TRACE(other);
        expect_equal(run(inputs, 8, gradient), once);
      }
    }
  }
  cpu::set_num_threads(threads);
}

TEST(ExpectedAttentionGrad, HasTheSameBitsRaggedPaddedAndAlone) {
  const std::vector<int64_t> query_lengths = {100, 0, 1, 97}, key_lengths = {96, 5, 0, 203};
  for (const DType dtype : kFloatTypes) {
    const Inputs ragged({.query_heads = 4,
                         .key_heads = 2,
                         .queries = 198,
                         .keys = 304,
                         .width = 20,
                         .value_width = 12,
                         .query_lengths = query_lengths,
                         .key_lengths = key_lengths},
                        dtype, Scales::kPresent);
    const Inputs entries = padded(ragged, query_lengths, key_lengths);
    const Grads together = run(ragged, 8, Gradient::kSurrogate);
    const Grads in_batch = run(entries, 8, Gradient::kSurrogate);
    for (int64_t b = 0; b < 4; ++b) {
      const Grads alone = run(ragged.sequence(b), 8, Gradient::kSurrogate);
      const int64_t i = ragged.query_side.rows().offsets[b];
      const int64_t j = ragged.key_side.rows().offsets[b];
      const int64_t num_queries = query_lengths[b], num_keys = key_lengths[b];
      EXPECT_TRUE(equal(slice_rows(together.queries, 0, i, num_queries), alone.queries));
      EXPECT_TRUE(equal(slice_rows(together.keys, 0, j, num_keys), alone.keys));
      EXPECT_TRUE(equal(slice_rows(together.values, 0, j, num_keys), alone.values));
      EXPECT_TRUE(equal(slice_rows(in_batch.queries, b, 0, num_queries), alone.queries));
      EXPECT_TRUE(equal(slice_rows(in_batch.keys, b, 0, num_keys), alone.keys));
      EXPECT_TRUE(equal(slice_rows(in_batch.values, b, 0, num_keys), alone.values));
    }
    // Padding gets zeros, not what was there.
    const auto expect_zero_padding = [](const Buffer& x, const Side& side) {
      x.for_each([&](int64_t b, int64_t h, int64_t i, int64_t c) {
        if (!side.is_real(b, i)) {
          EXPECT_EQ(x.at(b, h, i, c), 0);
        }
      });
    };
    expect_zero_padding(in_batch.queries, entries.query_side);
    expect_zero_padding(in_batch.keys, entries.key_side);
    expect_zero_padding(in_batch.values, entries.key_side);
  }
}

// Gradients of out in float, as a layer that goes on in float hands them over.
TEST(ExpectedAttentionGrad, TakesAndGivesFloatForTypesOf16Bits) {
  for (const DType dtype : {DType::kBFloat16, DType::kFloat16}) {
    const Inputs in({.queries = 70, .keys = 90, .width = 16, .value_width = 9}, dtype,
                    Scales::kPresent);
    const Grads narrow = run(in, 8, Gradient::kSurrogate);
    const auto widened = [](const Buffer& x) {
      Buffer wide(DType::kFloat32, x.batch(), x.heads(), x.rows(), x.cols());
      copy_rows(x, 0, 0, wide, 0, 0, x.rows());
      return wide;
    };
    Inputs mixed = in;
    mixed.out_grad = widened(in.out_grad);
    Grads wide(in), rounded(in);
    wide.queries = widened(in.queries);
    wide.keys = widened(in.keys);
    wide.values = widened(in.values);
    backend::expected_attention_grad(wide.args(mixed, 8, Gradient::kSurrogate));
    for (Buffer Grads::*grad : {&Grads::queries, &Grads::keys, &Grads::values}) {
      copy_rows(wide.*grad, 0, 0, rounded.*grad, 0, 0, (rounded.*grad).rows());
      EXPECT_TRUE(equal(narrow.*grad, rounded.*grad));
    }
  }
}

TEST(ExpectedAttentionGrad, NamesWhatIsWrong) {
  const Inputs in({.batch = 2,
                   .query_heads = 4,
                   .key_heads = 2,
                   .queries = 5,
                   .keys = 6,
                   .width = 8,
                   .value_width = 3},
                  DType::kFloat32, Scales::kPresent);
  Grads grads(in);
  const auto message = [&](const std::function<void(ExpectedAttentionGrad&)>& change) {
    ExpectedAttentionGrad a = grads.args(in, 8, Gradient::kSurrogate);
    change(a);
    return error_of([&] { backend::expected_attention_grad(a); });
  };
  using A = ExpectedAttentionGrad;
  EXPECT_EQ(message([](A&) {}), "no error");
  grads = Grads(in);
  EXPECT_EQ(message([](A& a) { a.code_bits = -1; }),
            "expected_attention_grad: code_bits is -1, expected a finite number above 0");
  EXPECT_EQ(message([](A& a) { a.keys.heads = 3; }),
            "expected_attention_grad: queries.heads is 4, expected a multiple of keys.heads = 3");
  EXPECT_EQ(message([](A& a) { a.keys.cols = 7; }),
            "expected_attention_grad: keys.cols is 7, expected 8");
  EXPECT_EQ(message([](A& a) { a.values.dtype = DType::kFloat16; }),
            "expected_attention_grad: values is float16, expected float32");
  EXPECT_EQ(message([](A& a) { a.key_scale.cols = 5; }),
            "expected_attention_grad: key_scale.cols is 5, expected 6");
  EXPECT_EQ(message([](A& a) { a.out_grad.rows = 6; }),
            "expected_attention_grad: out_grad.rows is 6, expected 5");
  EXPECT_EQ(message([](A& a) { a.query_grad.cols = 9; }),
            "expected_attention_grad: query_grad.cols is 9, expected 8");
  EXPECT_EQ(message([](A& a) { a.key_grad.heads = 4; }),
            "expected_attention_grad: key_grad.heads is 4, expected 2");
  EXPECT_EQ(message([](A& a) { a.value_grad.data = nullptr; }),
            "expected_attention_grad: value_grad is null, expected an array");
  EXPECT_EQ(message([](A& a) { a.value_grad.dtype = DType::kFloat64; }),
            "expected_attention_grad: value_grad is float64, expected a type that goes with "
            "float32");
  if (kOnGpu) {
    const Inputs wide = in.widened();
    Grads wide_grads(wide);
    const ExpectedAttentionGrad a = wide_grads.args(wide, 8, Gradient::kSurrogate);
    EXPECT_EQ(error_of([&] { backend::expected_attention_grad(a); }),
              "expected_attention_grad: queries is float64, expected float32, bfloat16 or float16 "
              "on a GPU");
  }
  for (const Buffer* x : {&grads.queries, &grads.keys, &grads.values}) {
    x->for_each([&](int64_t b, int64_t h, int64_t i, int64_t c) {
      EXPECT_TRUE(std::isnan(x->at(b, h, i, c))) << "a refused call has written";
    });
  }
}

}  // namespace
}  // namespace yoso
