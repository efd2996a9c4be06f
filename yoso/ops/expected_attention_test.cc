// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/expected_attention.h"

#include <gmock/gmock.h>

#include <array>
#include <functional>
#include <tuple>

#include "yoso/cpu/parallel.h"
#include "yoso/ops/backend_testing.h"
#include "yoso/ops/expected_attention_testing.h"

namespace yoso {
namespace {

using namespace testing;  // NOLINT: yoso::testing

Buffer empty_out(const Inputs& in, Layout layout = Layout::kDense) {
  return {in.queries.dtype(), in.queries.batch(), in.queries.heads(),
          in.queries.rows(),  in.values.cols(),   layout};
}

Buffer run(const Inputs& inputs, double code_bits) {
  Buffer out = empty_out(inputs);
  backend::expected_attention(inputs.forward(out, code_bits));
  return out;
}

// The table of probabilities: acos and powers in exact arithmetic, six digits.
struct Golden {
  double x, code_bits, probability;
};
constexpr Golden kGolden[] = {
    {-.5, 1, .333333},   {-.5, 8, 1.52416e-4}, {-.5, 9, 5.08053e-5}, {0, 8, 3.90625e-3},
    {0, 9, 1.95312e-3},  {0, 12, 2.44141e-4},  {.5, 8, .0390184},    {.5, 9, .0260123},
    {.5, 12, .00770735}, {.9, 8, .289434},     {.9, 9, .247881},     {.9, 12, .155713},
    {.99, 8, .691564},   {.99, 9, .660407},    {.99, 12, .575107},   {1, 8, 1},
    {1, 2.5, 1},         {-1, 8, 0},           {-1, .5, 0}};

TEST(CollisionProbability, MatchesGoldenNumbers) {
  for (const Golden& golden : kGolden) {
    EXPECT_NEAR(reference::collision_probability(golden.x, golden.code_bits), golden.probability,
                6e-6 * golden.probability);
  }
  EXPECT_EQ(reference::collision_probability(1.5, 3), 1);
  EXPECT_EQ(reference::collision_probability(-1.5, 3), 0);
}

TEST(ExpectedAttention, WeighsOnePairByTheGoldenNumbers) {
  for (const DType dtype : {DType::kFloat32, kWidest}) {
    for (const Golden& golden : kGolden) {
      Inputs in({.width = 2}, dtype, Scales::kAbsent);
      in.queries.fill([](int64_t, int64_t, int64_t, int64_t c) { return c == 0; });
      in.keys.fill([&](int64_t, int64_t, int64_t, int64_t c) {
        return c == 0 ? golden.x : std::sqrt(1 - golden.x * golden.x);
      });
      in.values.fill([](int64_t, int64_t, int64_t, int64_t) { return 1; });
      EXPECT_NEAR(run(in, golden.code_bits).at(0, 0, 0, 0), golden.probability,
                  8e-6 * golden.probability);
    }
  }
}

// Relative accuracy for every x a float can be near -1, 0 and 1, where a plain acos loses it.
TEST(ExpectedAttention, KeepsRelativeAccuracyOfSmallWeights) {
  std::vector<float> cosines;
  for (float x = -1; x < -0.9999f; x = std::nextafter(x, 2.0f)) cosines.push_back(x);
  for (int k = -20000; k <= 20000; ++k) cosines.push_back(float(k) / 20000);
  const int64_t n = std::ssize(cosines);
  std::vector<float> queries(cosines), out(cosines.size());
  const float one = 1;
  for (const double code_bits : {1.0, 8.0, 8.5}) {
    backend::expected_attention({.queries = dense<const float>(queries.data(), 1, 1, n, 1),
                                 .keys = dense(&one, 1, 1, 1, 1),
                                 .values = dense(&one, 1, 1, 1, 1),
                                 .out = dense(out.data(), 1, 1, n, 1),
                                 .code_bits = code_bits});
    for (int64_t i = 0; i < n; ++i) {
      const double p = reference::collision_probability(cosines[i], code_bits);
      const double allowed =
          (code_bits + 2 + (code_bits == 8.5 ? -std::log(p + 1e-300) : 0)) * 2e-7 * p;
      ASSERT_NEAR(out[i], p, allowed) << "x = " << cosines[i] << ", T = " << code_bits;
    }
  }
}

// Bounds in float: three terms, each with the error of its weight (1.2e-6) and of its cosine
// (5e-7).
template <class T>
void expect_worked_example(void (*run)(const ExpectedAttention&)) {
  const T r2 = static_cast<T>(std::sqrt(0.5)), r5 = static_cast<T>(std::sqrt(0.2));
  const T queries[] = {1, 0, r2, r2, 0, 1};
  const T keys[] = {1, 0, -r2, r2, r5, 2 * r5};
  const T values[] = {1, 0, 0, 1, 2, -1};
  const T identity[] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  const double weights[] = {1,           .00390625, .1758666190, .31640625,  .0625,
                            .6490821554, .0625,     .31640625,   .5279674529};
  const double golden[] = {1.3517332379, -.1719603690, 1.6145705608,
                           -.5865821554, 1.1184349058, -.2115612029};
  const double allowed = sizeof(T) == 8 ? 1e-10 : 1e-5;
  T out[9];
  ExpectedAttention a{.queries = dense(queries, 1, 1, 3, 2),
                      .keys = dense(keys, 1, 1, 3, 2),
                      .values = dense(identity, 1, 1, 3, 3),
                      .out = dense(out, 1, 1, 3, 3),
                      .code_bits = 4};
  run(a);
  for (int k = 0; k < 9; ++k) EXPECT_NEAR(out[k], weights[k], allowed) << k;
  a.values = dense(values, 1, 1, 3, 2);
  a.out = dense(out, 1, 1, 3, 2);
  run(a);
  for (int k = 0; k < 6; ++k) EXPECT_NEAR(out[k], golden[k], allowed) << k;
}

TEST(ExpectedAttention, MatchesTheWorkedExample) {
  expect_worked_example<double>(reference::expected_attention);
  expect_worked_example<Widest>(backend::expected_attention);
}

class ExpectedAttentionTable : public ::testing::TestWithParam<Shape> {};

TEST_P(ExpectedAttentionTable, MatchesReference) {
  const Shape shape = GetParam();
  for (const DType dtype : kFloatTypes) {
    const Scales scales = dtype == DType::kBFloat16 ? Scales::kAbsent : Scales::kPresent;
    const Inputs inputs(shape, dtype, scales), wide = inputs.widened();
    const Precision exact = precision(shape, dtype);
    for (const double code_bits : powers(shape, dtype)) {
      Buffer out = empty_out(inputs, shape.layout), expected = empty_out(wide);
      backend::expected_attention(inputs.forward(out, code_bits));
      reference::expected_attention(wide.forward(expected, code_bits));
      Buffer bounds = empty_out(wide);
      bounds.fill([](int64_t, int64_t, int64_t, int64_t) { return 0; });
      // A sum over keys, each a weight with its error times a value.
      for_each_pair(wide, [&](int64_t b, int64_t h, int64_t g, int64_t i, int64_t j) {
        const Cosine x = cosine(wide, exact.u, b, h, g, i, j);
        const double weight = reference::collision_probability(x.value, code_bits);
        const double error =
            PairError{x.error, exact}.of(x.value, code_bits, reference::collision_probability) +
            exact.roundings(shape.keys) * exact.u * weight;
        const double* value = std::as_const(wide).values.array().row<double>(b, g, j);
        double* bound = bounds.array().row<double>(b, h, i);
        for (int64_t v = 0; v < shape.value_width; ++v) bound[v] += error * std::abs(value[v]);
      });
      const auto bound = [&](int64_t b, int64_t h, int64_t i, int64_t v) {
        return bounds.at(b, h, i, v);
      };
      ASSERT_TRUE(within(out, expected, bound)) << name_of(dtype) << ", T = " << code_bits;
      ASSERT_TRUE(out.gaps_are_untouched());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, ExpectedAttentionTable,
                         ::testing::ValuesIn(expected_attention_shapes()), shape_name);

TEST(ExpectedAttention, GivesZerosWithoutKeysAndForMaskedQueries) {
  const Inputs none({.queries = 3, .keys = 0, .width = 4, .value_width = 2}, DType::kFloat32,
                    Scales::kAbsent);
  const Buffer zeros = run(none, 8);
  zeros.for_each(
      [&](int64_t b, int64_t h, int64_t i, int64_t v) { EXPECT_EQ(zeros.at(b, h, i, v), 0); });
  const Inputs masked(
      {.batch = 2, .queries = 40, .keys = 40, .width = 4, .value_width = 2, .mask = Mask::kRandom},
      DType::kBFloat16, Scales::kPresent);
  const Buffer out = run(masked, 8);
  int64_t zero_rows = 0;
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t i = 0; i < 40; ++i) {
      const bool is_zero = out.at(b, 0, i, 0) == 0 && out.at(b, 0, i, 1) == 0;
      EXPECT_EQ(is_zero, !masked.query_side.is_real(b, i));
      zero_rows += is_zero;
    }
  }
  EXPECT_GT(zero_rows, 0);
}

TEST(ExpectedAttention, HasTheSameBitsForAnyNumberOfThreads) {
  const int64_t threads = cpu::num_threads();
  const Inputs inputs({.batch = 2,
                       .query_heads = 2,
                       .queries = 300,
                       .keys = 250,
                       .width = 20,
                       .value_width = 12,
                       .mask = Mask::kRandom},
                      DType::kFloat32, Scales::kPresent);
  cpu::set_num_threads(1);
  const Buffer once = run(inputs, 8);
  for (const int64_t other : {2, 5}) {
    cpu::set_num_threads(other);
    EXPECT_TRUE(equal(run(inputs, 8), once)) << other << " threads";
  }
  cpu::set_num_threads(threads);
}

TEST(ExpectedAttention, HasTheSameBitsRaggedPaddedAndAlone) {
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
    const Buffer together = run(ragged, 8);
    const Buffer in_batch = run(padded(ragged, query_lengths, key_lengths), 8);
    for (int64_t b = 0; b < 4; ++b) {
      const Buffer alone = run(ragged.sequence(b), 8);
      const int64_t first = ragged.query_side.rows().offsets[b];
      EXPECT_TRUE(equal(slice_rows(together, 0, first, query_lengths[b]), alone)) << b;
      EXPECT_TRUE(equal(slice_rows(in_batch, b, 0, query_lengths[b]), alone)) << b;
    }
  }
}

TEST(ExpectedAttention, RoundsWhenItWrites) {
  for (const DType dtype : {DType::kBFloat16, DType::kFloat16}) {
    const Inputs in({.queries = 70, .keys = 90, .width = 16, .value_width = 9}, dtype,
                    Scales::kPresent);
    Buffer narrow = empty_out(in), wide(DType::kFloat32, 1, 1, 70, 9);
    backend::expected_attention(in.forward(narrow, 8));
    backend::expected_attention(in.forward(wide, 8));
    Buffer rounded = empty_out(in);
    rounded.fill([&](int64_t b, int64_t h, int64_t i, int64_t v) { return wide.at(b, h, i, v); });
    EXPECT_TRUE(equal(narrow, rounded));
  }
}

TEST(ExpectedAttention, KeepsNaNInItsRow) {
  for (const DType dtype : kFloatTypes) {
    Inputs in({.queries = 70, .keys = 90, .width = 16, .value_width = 9}, dtype, Scales::kPresent);
    const Buffer clean = run(in, 8);
    in.queries.set(0, 0, 20, 3, std::nan(""));
    const Buffer out = run(in, 8);
    out.for_each([&](int64_t b, int64_t h, int64_t i, int64_t v) {
      if (i == 20) {
        // Clamping the cosine, the CPU's vectors take NaN for 1.
        EXPECT_TRUE(std::isnan(out.at(b, h, i, v)) || !kOnGpu);
      } else {
        EXPECT_EQ(out.at(b, h, i, v), clean.at(b, h, i, v));
      }
    });
  }
}

TEST(ExpectedAttention, NamesWhatIsWrong) {
  const Shape shape{.batch = 2,
                    .query_heads = 4,
                    .key_heads = 2,
                    .queries = 5,
                    .keys = 6,
                    .width = 8,
                    .value_width = 3};
  const Inputs in(shape, DType::kFloat32, Scales::kPresent);
  Buffer out = empty_out(in);
  const int64_t offsets[] = {0, 3, 2, 5};
  const auto message = [&](const std::function<void(ExpectedAttention&)>& change) {
    ExpectedAttention a = in.forward(out, 8);
    change(a);
    return error_of([&] { backend::expected_attention(a); });
  };
  using A = ExpectedAttention;
  EXPECT_EQ(message([](A& a) { a.code_bits = 0; }),
            "expected_attention: code_bits is 0, expected a finite number above 0");
  EXPECT_EQ(message([](A& a) { a.code_bits = std::nan(""); }),
            "expected_attention: code_bits is nan, expected a finite number above 0");
  EXPECT_EQ(message([](A& a) { a.keys.heads = 3; }),
            "expected_attention: queries.heads is 4, expected a multiple of keys.heads = 3");
  EXPECT_EQ(message([](A& a) { a.queries.cols = 257; }),
            "expected_attention: queries.cols is 257, expected 1 to 256");
  EXPECT_EQ(message([](A& a) { a.values.cols = 0; }),
            "expected_attention: values.cols is 0, expected 1 to 256");
  EXPECT_EQ(message([](A& a) { a.keys.batch = 1; }),
            "expected_attention: keys.batch is 1, expected 2");
  EXPECT_EQ(message([](A& a) { a.keys.cols = 7; }),
            "expected_attention: keys.cols is 7, expected 8");
  EXPECT_EQ(message([](A& a) { a.keys.dtype = DType::kBFloat16; }),
            "expected_attention: keys is bfloat16, expected float32");
  EXPECT_EQ(message([](A& a) { a.queries.dtype = DType::kUint8; }),
            "expected_attention: queries is uint8, expected a floating type");
  EXPECT_EQ(message([](A& a) { a.values.rows = 5; }),
            "expected_attention: values.rows is 5, expected 6");
  EXPECT_EQ(message([](A& a) { a.values.data = nullptr; }),
            "expected_attention: values is null, expected an array");
  EXPECT_EQ(message([](A& a) { a.values.dtype = DType::kFloat64; }),
            "expected_attention: values is float64, expected float32");
  EXPECT_EQ(message([](A& a) { a.query_scale.cols = 6; }),
            "expected_attention: query_scale.cols is 6, expected 5");
  EXPECT_EQ(message([](A& a) { a.key_scale.dtype = DType::kFloat64; }),
            "expected_attention: key_scale is float64, expected float32");
  EXPECT_EQ(message([](A& a) { a.out.cols = 4; }), "expected_attention: out.cols is 4, expected 3");
  EXPECT_EQ(message([](A& a) { a.out.dtype = DType::kFloat64; }),
            "expected_attention: out is float64, expected a type that goes with float32");
  EXPECT_THAT(message([&](A& a) { a.query_rows.offsets = offsets; }),
              ::testing::HasSubstr("expected offsets for both sides or for none"));
  EXPECT_EQ(error_of([&] {
              const Inputs one({.queries = 5, .keys = 5, .width = 8, .value_width = 3},
                               DType::kFloat32, Scales::kAbsent);
              Buffer rows = empty_out(one);
              ExpectedAttention a = one.forward(rows, 8);
              a.query_rows = a.key_rows = {.offsets = offsets, .sequences = 3};
              backend::expected_attention(a);
            }),
            "expected_attention: query_rows.offsets[2] is 2, expected at least offsets[1] = 3");
  if (kOnGpu) {
    const Inputs wide = in.widened();
    Buffer wide_out = empty_out(wide);
    EXPECT_EQ(error_of([&] { backend::expected_attention(wide.forward(wide_out, 8)); }),
              "expected_attention: queries is float64, expected float32, bfloat16 or float16 on a "
              "GPU");
  }
  out.for_each([&](int64_t b, int64_t h, int64_t i, int64_t v) {
    EXPECT_TRUE(std::isnan(out.at(b, h, i, v))) << "a refused call has written";
  });
}

}  // namespace
}  // namespace yoso
