// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/bucket_attention_grad.h"

#include <gtest/gtest.h>

#include <bit>

#include "yoso/cpu/parallel.h"
#include "yoso/ops/backend_testing.h"
#include "yoso/ops/hash.h"
#include "yoso/ops/pair_weights_testing.h"
#include "yoso/ops/testing.h"
#include "yoso/ops/unit_rows.h"

namespace yoso {
namespace {

using namespace yoso::testing;

// Rows: whole numbers and powers of two as scales, normal numbers, or rows that powers of two scale
// to unit ones, with normal values.
enum class Numbers : uint8_t { kWhole, kNormal, kUnit };

enum Scales : uint8_t { kNoScale = 0, kQueryScale = 1, kKeyScale = 2, kBothScales = 3 };

struct Gradients {
  Buffer query_grad, key_grad;
};

struct Case;

// What the reference makes of a case in double, and the sums of the absolute terms.
struct Expected {
  Gradients value, magnitude;

  explicit Expected(const Case& c);
};

// One call; what is masked holds garbage.
struct Case {
  Shape shape;
  Gradient gradient = Gradient::kSurrogate;
  bool of_rows = false;
  Numbers numbers;
  Side query_side, key_side;
  Buffer query_codes, key_codes, queries, keys, query_scale, key_scale, values, out_grad;
  Gradients out;

  Case(const Shape& s, DType dtype, Numbers numbers = Numbers::kWhole, Scales scales = kBothScales)
      : Case(s, dtype, dtype, numbers, scales) {}

  Case(const Shape& s, DType dtype, DType grad_dtype, Numbers numbers, Scales scales)
      : shape(s),
        numbers(numbers),
        query_side(s.query_side()),
        key_side(s.key_side()),
        query_codes(code_dtype(s.bits), s.batch, s.query_heads, s.hashes, s.queries, s.layout),
        key_codes(code_dtype(s.bits), s.batch, s.key_heads, s.hashes, s.keys, s.layout),
        queries(dtype, s.batch, s.query_heads, s.queries, s.width, s.layout),
        keys(dtype, s.batch, s.key_heads, s.keys, s.width, s.layout),
        values(dtype, s.batch, s.key_heads, s.keys, s.value_width, s.layout),
        out_grad(grad_dtype, s.batch, s.query_heads, s.queries, s.value_width, s.layout) {
    const DType acc = accumulator(dtype);
    out.query_grad = {grad_dtype, s.batch, s.query_heads, s.queries, s.width, s.layout};
    out.key_grad = {grad_dtype, s.batch, s.key_heads, s.keys, s.width, s.layout};
    if (scales & kQueryScale) query_scale = {acc, s.batch, s.query_heads, 1, s.queries, s.layout};
    if (scales & kKeyScale) key_scale = {acc, s.batch, s.key_heads, 1, s.keys, s.layout};

    fill_codes(query_codes, s.bits, 1, s.tokens);
    fill_codes(key_codes, s.bits, 2, s.tokens);
    uint64_t seed = 3;
    for (Buffer* x : {&queries, &keys, &values, &out_grad}) {
      const bool unit = numbers == Numbers::kUnit && (x == &queries || x == &keys);
      if (unit) {
        fill_unit(*x, seed, Tokens::kClusters);
      } else {
        numbers == Numbers::kWhole ? fill_whole(*x, seed) : fill_normal(*x, seed);
      }
      ++seed;
    }
    for (Buffer* scale : {&query_scale, &key_scale}) {
      Random random(seed, 0);
      scale->fill([&](int64_t, int64_t, int64_t, int64_t i) {
        if (numbers == Numbers::kUnit) return std::ldexp(1.0, int(i % 7) - 3);
        if (numbers == Numbers::kWhole) return std::ldexp(1.0, int(random.below(3)) - 1);
        return 0.5 + random.uniform();
      });
      ++seed;
    }
    if (numbers == Numbers::kUnit) {
      for (const auto& [rows, scale] : {std::pair{&queries, &query_scale}, {&keys, &key_scale}}) {
        if (scale->absent()) continue;
        rows->fill([&](int64_t b, int64_t h, int64_t i, int64_t c) {
          return rows->at(b, h, i, c) / scale->at(b, h, 0, i);
        });
      }
    }
    spoil_masked_columns(query_codes, query_side);
    spoil_masked_columns(key_codes, key_side);
    if (!query_scale.absent()) spoil_masked_columns(query_scale, query_side);
    if (!key_scale.absent()) spoil_masked_columns(key_scale, key_side);
    spoil_masked_rows(queries, query_side);
    spoil_masked_rows(out_grad, query_side);
    spoil_masked_rows(keys, key_side);
    spoil_masked_rows(values, key_side);
  }

  BucketAttentionGrad args() {
    BucketAttentionGrad a;
    a.query_codes = query_codes.array();
    a.key_codes = key_codes.array();
    a.queries = queries.array();
    a.keys = keys.array();
    a.query_scale = query_scale.array();
    a.key_scale = key_scale.array();
    a.values = values.array();
    a.out_grad = out_grad.array();
    a.query_grad = out.query_grad.array();
    a.key_grad = out.key_grad.array();
    a.code_bits = shape.bits;
    a.gradient = gradient;
    a.of_rows = of_rows;
    a.query_rows = query_side.rows();
    a.key_rows = key_side.rows();
    a.pairs_up_to = tested_pairs_up_to();
    return a;
  }

  // The reference in double; on absolute values it gives the sum of the absolute terms.
  Gradients reference(bool absolute) const {
    Case wide = *this;
    for (Buffer* x : {&wide.queries, &wide.keys, &wide.query_scale, &wide.key_scale, &wide.values,
                      &wide.out_grad, &wide.out.query_grad, &wide.out.key_grad}) {
      *x = absolute ? x->magnitudes() : x->widened();
    }
    yoso::reference::bucket_attention_grad(wide.args());
    return wide.out;
  }

  int64_t group() const { return shape.query_heads / std::max<int64_t>(1, shape.key_heads); }

  // A sum runs over the V columns of G . v, over the tokens of the other side and over the hashes,
  // in this or another order; then there are the factor T / 2M, the scales and products.
  //
  // Whole numbers over M = 2^k are exact but for a few roundings of the result.
  ::testing::AssertionResult is_right() const { return is_right(Expected(*this)); }
  ::testing::AssertionResult is_right(const Expected& expected) const {
    const double u = unit_roundoff(accumulator(queries.dtype()));
    const bool exact =
        numbers == Numbers::kWhole && std::has_single_bit(static_cast<uint64_t>(shape.hashes));
    const double common = double(shape.value_width + shape.hashes + 8);
    // Tensor cores on the GPU round four times to 16 bits on the way: G to the type of the queries,
    // the outer product or the weight of a pair, the unit row, and what a bucket gives a row.
    const bool narrow = kOnGpu && gradient == Gradient::kSurrogate && size_of(queries.dtype()) == 2;
    const double on_the_way = narrow ? 4 * unit_roundoff(queries.dtype()) : 0;
    const auto queries_close =
        close(out.query_grad, expected.value.query_grad, expected.magnitude.query_grad,
              on_the_way + u * (exact ? 4 : common + double(shape.keys)));
    const auto keys_close =
        close(out.key_grad, expected.value.key_grad, expected.magnitude.key_grad,
              on_the_way + u * (exact ? 4 : common + double(shape.queries * group())));
    if (!queries_close)
      return ::testing::AssertionFailure() << "query_grad" << queries_close.message();
    if (!keys_close) return ::testing::AssertionFailure() << "key_grad" << keys_close.message();
    return ::testing::AssertionSuccess();
  }

  bool gaps_are_untouched() const {
    return out.query_grad.gaps_are_untouched() && out.key_grad.gaps_are_untouched();
  }
};

Expected::Expected(const Case& c)
    : value(c.reference(/*absolute=*/false)), magnitude(c.reference(/*absolute=*/true)) {}

class BucketAttentionGradTest : public ::testing::TestWithParam<Shape> {};

TEST_P(BucketAttentionGradTest, SurrogateMatchesReference) {
  // Whole numbers are the same numbers in every type.
  const Expected expected(Case(GetParam(), DType::kFloat64));
  for (DType dtype : kFloatTypes) {
    Case c(GetParam(), dtype);
    backend::bucket_attention_grad(c.args());
    EXPECT_TRUE(c.is_right(expected)) << name_of(dtype);
    EXPECT_TRUE(c.gaps_are_untouched()) << name_of(dtype);
  }
}

// With the bits that they have one by one.
TEST_P(BucketAttentionGradTest, GivesTheGradientOfTheValuesAsWell) {
  for (Gradient gradient : {Gradient::kSurrogate, Gradient::kTrue}) {
    for (DType dtype : kFloatTypes) {
      Case c(GetParam(), dtype, Numbers::kNormal);
      c.gradient = gradient;
      Case all = c;
      backend::bucket_attention_grad(c.args());
      const Shape& s = c.shape;
      Buffer alone(dtype, s.batch, s.key_heads, s.keys, s.value_width, s.layout), together = alone;
      BucketAttentionGrad a = c.args();
      a.value_grad = alone.array();
      backend::bucket_attention(a.of_values());
      a = all.args();
      a.value_grad = together.array();
      backend::bucket_attention_grad(a);
      const auto name = join(name_of(dtype), gradient == Gradient::kTrue ? ", true" : "");
      EXPECT_TRUE(equal(together, alone)) << name;
      EXPECT_TRUE(equal(all.out.query_grad, c.out.query_grad)) << name;
      EXPECT_TRUE(equal(all.out.key_grad, c.out.key_grad)) << name;
      EXPECT_TRUE(together.gaps_are_untouched()) << name;
    }
  }
}

constexpr Layout kDense = Layout::kDense, kRowsFirst = Layout::kRowsFirst, kGaps = Layout::kGaps;
constexpr Mask kNone = Mask::kNone, kTail = Mask::kTail, kRandom = Mask::kRandom, kAll = Mask::kAll;
constexpr Tokens kIid = Tokens::kIid, kClusters = Tokens::kClusters,
                 kIdentical = Tokens::kIdentical;

// {B, Hq, Hk, Nq, Nk, M, T, D, V, layout, mask, tokens, query lengths, key lengths}
const Shape kShapes[] = {
    // Lengths from 0.
    {1, 1, 1, 0, 0, 1, 1, 1, 1},
    {2, 2, 2, 0, 5, 3, 2, 3, 7, kGaps},
    {2, 2, 2, 5, 0, 3, 2, 7, 3, kGaps},
    {0, 2, 2, 5, 5, 3, 2, 1, 7},
    {2, 0, 0, 5, 5, 3, 2, 1, 7},
    {1, 1, 1, 1, 1, 1, 1, 1, 1},
    {3, 2, 2, 2, 2, 2, 1, 3, 1, kRowsFirst},
    {1, 2, 2, 7, 8, 8, 2, 7, 8, kGaps, kRandom},
    {2, 1, 1, 8, 7, 8, 2, 8, 16, kRowsFirst, kTail},
    {1, 2, 2, 9, 31, 31, 5, 16, 31, kGaps, kNone, kClusters},
    {2, 2, 2, 31, 33, 32, 8, 31, 32, kRowsFirst, kRandom, kClusters},
    {2, 3, 3, 33, 9, 33, 8, 32, 33, kGaps, kTail, kClusters},
    {1, 2, 2, 127, 127, 32, 8, 64, 64, kRowsFirst, kRandom, kClusters},
    {1, 1, 1, 127, 33, 4, 9, 65, 64, kGaps, kRandom, kClusters},
    {1, 1, 1, 1023, 1025, 2, 8, 33, 8, kRowsFirst, kTail},
    {1, 1, 1, 1025, 1023, 4, 11, 8, 33, kDense, kRandom, kClusters},
    // Wide rows.
    {1, 2, 2, 33, 31, 8, 5, 100, 65, kRowsFirst, kRandom},
    {1, 2, 2, 31, 33, 2, 2, 128, 100, kRowsFirst, kNone, kClusters},
    {1, 1, 1, 9, 127, 2, 5, 255, 3, kGaps, kTail, kIdentical},
    {1, 1, 1, 127, 9, 1, 5, 3, 255, kGaps, kTail, kIdentical},
    {2, 1, 1, 33, 33, 8, 5, 256, 256, kGaps, kRandom, kClusters},
    // Many buckets, and one; pairwise and by outer products, which narrow rows meet early.
    {1, 2, 2, 127, 127, 4, 16, 7, 7, kGaps, kRandom, kClusters},
    {1, 1, 1, 33, 33, 1, 16, 64, 64, kDense, kNone, kIdentical},
    {1, 1, 1, 200, 201, 2, 8, 64, 64, kGaps, kRandom, kIdentical},
    {1, 1, 1, 200, 201, 3, 8, 32, 16, kRowsFirst, kTail, kIdentical},
    {1, 1, 1, 2, 1025, 2, 8, 64, 32, kRowsFirst, kRandom, kIdentical},
    {1, 1, 1, 1025, 2, 2, 8, 16, 64, kRowsFirst, kRandom, kIdentical},
    {1, 1, 1, 127, 129, 4, 1, 8, 8, kGaps, kTail},
    {1, 1, 1, 127, 129, 4, 3, 33, 7, kDense, kRandom},
    // One width of 32, 64 or 128: tensor cores on the GPU; buckets of few rows, of some and of
    // many.
    {2, 2, 2, 300, 301, 4, 8, 32, 32, kRowsFirst, kRandom},
    {1, 2, 2, 700, 650, 4, 4, 64, 64, kRowsFirst, kTail},
    {1, 2, 2, 129, 1000, 2, 3, 128, 128, kDense, kRandom},
    {1, 1, 1, 400, 37, 2, 2, 64, 64, kDense, kRandom, kClusters},
    {1, 2, 1, 333, 334, 2, 8, 32, 32, kRowsFirst, kRandom, kIdentical},
    {1, 2, 1, 200, 201, 2, 8, 64, 64, kRowsFirst, kTail, kIdentical},
    {1, 1, 1, 130, 127, 2, 8, 128, 128, kDense, kRandom, kIdentical},
    {1, 2, 2, 300, 301, 4, 9, 32, 32, kRowsFirst, kTail, kClusters},
    {1, 1, 1, 300, 301, 2, 12, 64, 64, kDense, kRandom, kIdentical},
    {1, 4, 2, 107, 130, 4, 5, 64, 64, kRowsFirst, kRandom, kClusters, {0, 99, 8}, {3, 127, 0}},
    // Thousands of buckets of more than 32 rows, of queries, keys or both: hardly a block of the GPU
    // makes one side only. Some sides have hundreds of rows, or none.
    {1, 1, 1, 720, 740, 150, 4, 64, 64, kRowsFirst},
    {1, 1, 1, 40, 740, 150, 4, 128, 128},
    {1, 1, 1, 40, 2400, 150, 4, 32, 32, kRowsFirst},
    {1, 1, 1, 30, 4800, 150, 4, 64, 64},
    {1, 1, 1, 4800, 20, 150, 4, 64, 64, kRowsFirst},
    {1, 1, 1, 20, 800, 150, 4, 64, 64},
    // Several words of planes of bits (yoso/ops/collision_sums.h), and half a one.
    {1, 2, 1, 140, 70, 70, 12, 32, 32, kRowsFirst, kRandom, kClusters},
    {1, 1, 1, 70, 140, 255, 16, 64, 64, kGaps, kTail, kClusters},
    {1, 1, 1, 66, 130, 16, 3, 128, 100, kRowsFirst, kRandom, kIdentical},
    // Grouped heads.
    {2, 4, 2, 7, 9, 4, 2, 8, 9, kRowsFirst, kRandom},
    {1, 6, 1, 33, 31, 8, 5, 65, 33, kGaps, kTail, kClusters},
    {1, 3, 1, 127, 129, 2, 5, 16, 16, kRowsFirst, kRandom, kIdentical},
    // All masked.
    {2, 2, 2, 9, 7, 3, 2, 16, 8, kGaps, kAll},
    {1, 4, 2, 33, 127, 8, 8, 33, 64, kRowsFirst, kAll, kIdentical},
    // Ragged, with empty sequences and sides.
    {1, 2, 2, 0, 0, 3, 2, 8, 8, kDense, kNone, kIid, {0}, {0}},
    {1, 2, 2, 40, 39, 4, 2, 8, 7, kRowsFirst, kNone, kClusters, {0, 31, 0, 1, 8}, {3, 33, 0, 0, 3}},
    {1, 4, 2, 40, 39, 8, 8, 33, 32, kGaps, kRandom, kClusters, {0, 31, 0, 1, 8}, {3, 33, 0, 0, 3}},
    {1, 2, 1, 107, 130, 4, 5, 100, 64, kGaps, kTail, kIdentical, {2, 105}, {127, 3}},
    // More than 65,535 groups.
    {35000, 2, 2, 1, 2, 2, 1, 3, 2, kRowsFirst, kRandom},
    {2, 35000, 35000, 2, 1, 1, 2, 1, 1},
    // Long.
    {1, 1, 1, 65537, 9, 2, 8, 2, 3, kRowsFirst, kRandom, kClusters},
    {1, 1, 1, 9, 65537, 2, 2, 3, 2, kGaps, kRandom},
    {1, 1, 1, 7, 65537, 2, 16, 1, 1, kDense, kTail, kIdentical},
};

INSTANTIATE_TEST_SUITE_P(Shapes, BucketAttentionGradTest, ::testing::ValuesIn(kShapes), shape_name);

TEST(BucketAttentionGrad, ReferenceRoundsItsSumsOnce) {
  for (Gradient gradient : {Gradient::kSurrogate, Gradient::kTrue}) {
    for (DType dtype : kFloatTypes) {
      Case c({1, 2, 1, 5, 7, 3, 2, 6, 4}, dtype, Numbers::kNormal);
      c.gradient = gradient;
      reference::bucket_attention_grad(c.args());
      const Gradients wide = c.reference(/*absolute=*/false);
      Gradients rounded = c.out;
      rounded.query_grad.fill([&](auto... at) { return wide.query_grad.at(at...); });
      rounded.key_grad.fill([&](auto... at) { return wide.key_grad.at(at...); });
      EXPECT_TRUE(equal(c.out.query_grad, rounded.query_grad)) << name_of(dtype);
      EXPECT_TRUE(equal(c.out.key_grad, rounded.key_grad)) << name_of(dtype);
    }
  }
}

TEST(BucketAttentionGrad, EachScaleMayBeAbsent) {
  for (DType dtype : kFloatTypes) {
    for (Scales scales : {kNoScale, kQueryScale, kKeyScale, kBothScales}) {
      for (Tokens tokens : {kClusters, kIdentical}) {
        Case c({1, 2, 1, 65, 70, 4, 5, 16, 12, kRowsFirst, kRandom, tokens}, dtype, Numbers::kWhole,
               scales);
        backend::bucket_attention_grad(c.args());
        EXPECT_TRUE(c.is_right()) << name_of(dtype) << ", scales " << int{scales};
      }
    }
  }
}

TEST(BucketAttentionGrad, SumsNormalNumbersInEveryType) {
  for (DType dtype : kFloatTypes) {
    for (Tokens tokens : {kIid, kClusters, kIdentical}) {
      Case c({1, 2, 2, 127, 130, 9, 5, 48, 33, kRowsFirst, kRandom, tokens}, dtype,
             Numbers::kNormal);
      backend::bucket_attention_grad(c.args());
      EXPECT_TRUE(c.is_right()) << name_of(dtype) << " " << name_of(tokens);
    }
  }
}

TEST(BucketAttentionGrad, GradientsMayBeAnotherTypeThanRows) {
  const DType kTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16};
  for (Gradient gradient : {Gradient::kSurrogate, Gradient::kTrue}) {
    for (DType dtype : kTypes) {
      for (DType grad_dtype : kTypes) {
        Case c({1, 2, 2, 33, 31, 4, 2, 9, 33}, dtype, grad_dtype, Numbers::kWhole, kNoScale);
        c.gradient = gradient;
        // Products of unit rows along the axes are 0 or 1: the true slope is exact as well.
        if (gradient == Gradient::kTrue) {
          for (Buffer* x : {&c.queries, &c.keys})
            x->fill([](int64_t, int64_t, int64_t i, int64_t k) { return i % 9 == k; });
        }
        backend::bucket_attention_grad(c.args());
        if (gradient == Gradient::kSurrogate) {
          EXPECT_TRUE(c.is_right()) << name_of(dtype) << " to " << name_of(grad_dtype);
        } else {
          // At most 31 + 33 + 8 roundings, and an acos and a power within a few units. Tensor cores
          // round G and s_ij to the type of the queries.
          const bool narrow = kOnGpu && size_of(dtype) == 2;
          const double bound =
              narrow ? 2 * unit_roundoff(dtype) + 96 * 0x1p-22 + 8e-6 : 96 * 0x1p-24;
          const Expected expected(c);
          EXPECT_TRUE(close(c.out.query_grad, expected.value.query_grad,
                            expected.magnitude.query_grad, bound));
          EXPECT_TRUE(
              close(c.out.key_grad, expected.value.key_grad, expected.magnitude.key_grad, bound));
        }
      }
    }
  }
}

// What unit_rows.h makes of the gradient g of unit rows y = s x: s (g - y (y . g)), and 0 of a row
// without direction. Roundings: W terms of y . g, eight more, and the result's; g has the same bits.
TEST(BucketAttentionGrad, GradientsOfRowsGoThroughTheirScales) {
  constexpr int64_t kZeroRow = 10;
  for (Gradient gradient : {Gradient::kSurrogate, Gradient::kTrue}) {
    for (DType dtype : kFloatTypes) {
      for (int64_t width : {3, 32, 64, 100, 128, 200}) {
        const Shape shape{1,     4,     2,          107,     130,       4,          5,
                          width, width, kRowsFirst, kRandom, kClusters, {0, 99, 8}, {3, 127, 0}};
        Case of_rows(shape, dtype, Numbers::kNormal);
        of_rows.gradient = gradient;
        const Buffer wide_grad = of_rows.out_grad.widened();  // smaller: half reaches 65,504
        of_rows.out_grad.fill([&](auto... at) { return wide_grad.at(at...) / 64; });
        for (int64_t c = 0; c < width; ++c) {
          of_rows.queries.set(0, 0, kZeroRow, c, 0);
          of_rows.keys.set(0, 1, kZeroRow, c, 0);
        }
        of_rows.query_scale.set(0, 0, 0, kZeroRow, 1 / kUnitRowsEpsilon);
        of_rows.key_scale.set(0, 1, 0, kZeroRow, 1 / kUnitRowsEpsilon);
        Case of_unit = of_rows;
        of_rows.of_rows = true;
        const DType acc = accumulator(dtype);
        of_unit.out.query_grad = {acc, 1, 4, shape.queries, width, shape.layout};
        of_unit.out.key_grad = {acc, 1, 2, shape.keys, width, shape.layout};
        backend::bucket_attention_grad(of_unit.args());
        backend::bucket_attention_grad(of_rows.args());

        const double bound = unit_roundoff(dtype) + unit_roundoff(acc) * double(width + 8);
        const auto is_right = [&](const Buffer& x, const Buffer& scale, const Side& side,
                                  const Buffer& unit_grad, const Buffer& got) {
          Buffer expected = unit_grad.widened(), magnitude = expected;
          for (int64_t h = 0; h < x.heads(); ++h) {
            for (int64_t i = 0; i < x.rows(); ++i) {
              const double s = scale.at(0, h, 0, i);
              const bool is_zero = !side.is_real(0, i) || s >= float(1 / kUnitRowsEpsilon);
              double along = 0, size = 0;
              for (int64_t c = 0; c < width; ++c) {
                const double term = s * x.at(0, h, i, c) * unit_grad.at(0, h, i, c);
                along += term;
                size += std::abs(term);
              }
              for (int64_t c = 0; c < width; ++c) {
                const double g = unit_grad.at(0, h, i, c), y = s * x.at(0, h, i, c);
                expected.set(0, h, i, c, is_zero ? 0 : s * (g - y * along));
                magnitude.set(0, h, i, c, is_zero ? 0 : s * (std::abs(g) + std::abs(y) * size));
              }
            }
          }
          return close(got, expected, magnitude, bound);
        };
        EXPECT_TRUE(is_right(of_rows.queries, of_rows.query_scale, of_rows.query_side,
                             of_unit.out.query_grad, of_rows.out.query_grad))
            << name_of(dtype) << ", width " << width;
        EXPECT_TRUE(is_right(of_rows.keys, of_rows.key_scale, of_rows.key_side,
                             of_unit.out.key_grad, of_rows.out.key_grad))
            << name_of(dtype) << ", width " << width;
        EXPECT_TRUE(of_rows.gaps_are_untouched()) << name_of(dtype) << ", width " << width;

        if (width != 32) continue;
        // The reference rounds once, from double; the operator's sums are another matter.
        Case wide = of_rows, unit = of_unit;
        reference::bucket_attention_grad(wide.args());
        reference::bucket_attention_grad(unit.args());
        EXPECT_TRUE(is_right(wide.queries, wide.query_scale, wide.query_side, unit.out.query_grad,
                             wide.out.query_grad));
        EXPECT_TRUE(is_right(wide.keys, wide.key_scale, wide.key_side, unit.out.key_grad,
                             wide.out.key_grad));
      }
    }
  }
}

// Key 5 and query 7 are spoiled: who never shares a bucket with them has the gradient that it has
// without them. Whole numbers over two hashes are exact in any order; true slopes are not, nor are
// they rounded alike in every order.
class NotFiniteTest : public ::testing::TestWithParam<Gradient> {};

TEST_P(NotFiniteTest, StaysInItsBuckets) {
  constexpr int64_t kKey = 5, kQuery = 7, kHashes = 2;
  const Gradient gradient = GetParam();
  for (DType dtype : kFloatTypes) {
    for (int64_t width : {9, 32, 64, 128}) {
      for (double bad : {std::nan(""), HUGE_VAL}) {
        Case clean({1, 1, 1, 100, 90, kHashes, 4, width, width}, dtype);
        clean.gradient = gradient;
        if (gradient == Gradient::kTrue) {  // steep slopes: half reaches 65,504
          const Buffer large = clean.out_grad;
          clean.out_grad.fill([&](auto... at) { return large.at(at...) * 0x1p-10; });
        }
        Case spoiled = clean;
        for (int64_t c = 0; c < width; ++c) {
          spoiled.keys.set(0, 0, kKey, c, bad);
          spoiled.values.set(0, 0, kKey, c, bad);
          spoiled.queries.set(0, 0, kQuery, c, bad);
          spoiled.out_grad.set(0, 0, kQuery, c, bad);
        }
        const auto run = [&](Case& c) {
          Buffer value_grad(dtype, 1, 1, 90, width, Layout::kDense);
          BucketAttentionGrad a = c.args();
          a.value_grad = value_grad.array();
          backend::bucket_attention_grad(a);
          return value_grad;
        };
        Case rows_spoiled = clean;
        for (int64_t c = 0; c < width; ++c) rows_spoiled.queries.set(0, 0, kQuery, c, bad);
        const Buffer clean_value_grad = run(clean), value_grad = run(spoiled);
        EXPECT_TRUE(equal(run(rows_spoiled), clean_value_grad));
        const auto meet = [&](int64_t query, int64_t key) {
          bool met = false;
          for (int64_t m = 0; m < kHashes; ++m) {
            met = met || clean.query_codes.at(0, 0, m, query) == clean.key_codes.at(0, 0, m, key);
          }
          return met;
        };
        const bool is_true = gradient == Gradient::kTrue;
        const Gradients magnitude = is_true ? clean.reference(/*absolute=*/true) : Gradients{};
        const auto compare = [&](const Buffer& grad, const Buffer& other, int64_t i, bool met,
                                 const Buffer* size) {
          for (int64_t c = 0; c < width; ++c) {
            const double x = grad.at(0, 0, i, c);
            if (met) {
              EXPECT_FALSE(std::isfinite(x)) << "row " << i;
            } else {
              const double apart = size ? 4 * unit_roundoff(dtype) * size->at(0, 0, i, c) : 0;
              EXPECT_NEAR(x, other.at(0, 0, i, c), apart) << "row " << i;
            }
          }
        };
        SCOPED_TRACE(join(name_of(dtype), " ", width, " ", bad));
        for (int64_t i = 0; i < 100; ++i) {
          if (i == kQuery) continue;
          compare(spoiled.out.query_grad, clean.out.query_grad, i, meet(i, kKey),
                  is_true ? &magnitude.query_grad : nullptr);
        }
        for (int64_t j = 0; j < 90; ++j) {
          if (j == kKey) continue;
          compare(spoiled.out.key_grad, clean.out.key_grad, j, meet(kQuery, j),
                  is_true ? &magnitude.key_grad : nullptr);
          compare(value_grad, clean_value_grad, j, meet(kQuery, j), nullptr);
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(BothGradients, NotFiniteTest,
                         ::testing::Values(Gradient::kSurrogate, Gradient::kTrue),
                         [](const auto& info) {
                           return info.param == Gradient::kTrue ? "true" : "surrogate";
                         });

// With one code for all tokens the gradient is a product of matrices,
//   query_grad_i = T/2 G_i (sum_j v_j k_j'),  key_grad_j = T/2 v_j (sum_i G_i q_i'),
// so that many tokens can be tested, with buckets on either side of the choice between pairs and
// outer products. Whole numbers: exact.
TEST(BucketAttentionGrad, OneBucketIsAProductOfMatrices) {
  const Shape kSizes[] = {
      {1, 1, 1, 60, 60, 2, 8, 64, 64},    {1, 1, 1, 3000, 3001, 2, 8, 64, 64},
      {1, 1, 1, 600, 600, 2, 8, 64, 64},  {1, 1, 1, 3000, 40, 1, 8, 64, 32},
      {1, 1, 1, 40, 3000, 1, 8, 32, 64},  {1, 1, 1, 600, 601, 2, 8, 128, 16},
      {1, 1, 1, 600, 601, 2, 8, 16, 128}, {1, 1, 1, 1, 5000, 2, 8, 64, 64},
      {1, 1, 1, 5000, 1, 2, 8, 64, 64},   {1, 1, 1, 200, 199, 2, 8, 256, 256},
      {1, 1, 1, 70, 33, 1, 3, 100, 200},  {1, 1, 1, 65537, 65537, 1, 8, 3, 5},
  };
  for (Shape shape : kSizes) {
    shape.tokens = kIdentical;
    Case c(shape, DType::kFloat32, Numbers::kWhole, kNoScale);
    backend::bucket_attention_grad(c.args());
    const auto product = [&](const Buffer& left, const Buffer& right) {
      std::vector<double> sum(static_cast<size_t>(left.cols() * right.cols()));
      for (int64_t j = 0; j < left.rows(); ++j)
        for (int64_t v = 0; v < left.cols(); ++v)
          for (int64_t k = 0; k < right.cols(); ++k)
            sum[v * right.cols() + k] += left.at(0, 0, j, v) * right.at(0, 0, j, k);
      return sum;
    };
    const auto check = [&](const char* name, const Buffer& got, const Buffer& left,
                           const std::vector<double>& matrix) {
      Buffer expected = got.widened();
      for (int64_t i = 0; i < got.rows(); ++i) {
        for (int64_t k = 0; k < got.cols(); ++k) {
          double sum = 0;
          for (int64_t v = 0; v < left.cols(); ++v)
            sum += left.at(0, 0, i, v) * matrix[v * got.cols() + k];
          expected.set(0, 0, i, k, double(shape.bits) / 2 * sum);
        }
      }
      EXPECT_TRUE(equal(got, expected)) << name << " " << name_of(shape);
    };
    check("query_grad", c.out.query_grad, c.out_grad, product(c.values, c.keys));
    check("key_grad", c.out.key_grad, c.values, product(c.out_grad, c.queries));
  }
}

// 1 - acos(x)/pi, not below what it is where 1 - x^2 is kSlopeFloor.
double closeness(double x) {
  return std::max(std::acos(std::clamp(-x, -1.0, 1.0)), std::sqrt(kSlopeFloor)) / M_PI;
}

// dp/dx for p = closeness^T, with 1 - x^2 not below kSlopeFloor.
double slope(double x, double bits) {
  return bits * std::pow(closeness(x), bits - 1) /
         (M_PI * std::sqrt(std::max(1 - x * x, kSlopeFloor)));
}

TEST(BucketAttentionGrad, TrueSlopeHasTheValuesOfTheFormula) {
  // T = 9, from a computation in Python; one query, one key, one hash, all codes equal.
  const struct {
    double x, slope;
  } kGolden[] = {{0, 0.0111906}, {0.5, 0.129072}, {0.9, 1.90224}, {0.99, 14.0443}};
  for (auto* run : {reference::bucket_attention_grad, backend::bucket_attention_grad}) {
    for (const auto& golden : kGolden) {
      Case c({1, 1, 1, 1, 1, 1, 9, 2, 1, kDense, kNone, kIdentical}, kWidest, Numbers::kWhole,
             kNoScale);
      c.gradient = Gradient::kTrue;
      c.queries.fill([](auto, auto, auto, int64_t k) { return k == 0; });
      c.keys.fill([&](auto, auto, auto, int64_t k) {
        return k == 0 ? golden.x : std::sqrt(1 - golden.x * golden.x);
      });
      c.values.fill([](auto...) { return 1; });
      c.out_grad.fill([](auto...) { return 1; });
      run(c.args());
      EXPECT_NEAR(c.out.key_grad.at(0, 0, 0, 0), golden.slope, golden.slope * 1e-5);
      EXPECT_NEAR(slope(golden.x, 9), golden.slope, golden.slope * 1e-5);
    }
  }
}

// The true gradient. A term is s_ij (G_i . v_j) k_j; what rounding does to s_ij is bounded by
//   - x, a sum of D products, known within dx = (D + 4) u sum |q k|: twice what slope() moves
//     between x - dx and x + dx, an interval on which it is nearly straight;
//   - acos within 8 u pi, which moves the power by (T - 1) 8 u closeness^(T - 2), and the
//     power itself within (2 T + 8) u.
// The sums over V and over tokens add V + N + 8 roundings. On tensor cores s_ij is bounded as in
// pair_weights_testing.h, whose roundings take the place of the N.
::testing::AssertionResult true_gradient_is_right(const Case& c) {
  const Shape& s = c.shape;
  const Precision exact = precision(s, c.queries.dtype());
  const double u = exact.u, bits = double(s.bits);
  Gradients expected = c.reference(/*absolute=*/false), bound = expected;
  bound.query_grad.fill([](auto...) { return 0; });
  bound.key_grad.fill([](auto...) { return 0; });
  const auto unit = [](const Buffer& x, const Buffer& scale, int64_t b, int64_t h, int64_t i,
                       int64_t k) {
    return x.at(b, h, i, k) * (scale.absent() ? 1 : scale.at(b, h, 0, i));
  };
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.query_heads; ++h) {
      const int64_t g = h / c.group();
      for (int64_t i = 0; i < s.queries; ++i) {
        for (int64_t j = 0; j < s.keys; ++j) {
          if (!c.query_side.is_real(b, i) || !c.key_side.is_real(b, j)) continue;
          bool collided = false;
          for (int64_t m = 0; m < s.hashes; ++m)
            collided |= c.query_codes.at(b, h, m, i) == c.key_codes.at(b, g, m, j);
          if (!collided) continue;
          double x = 0, size = 0, product = 0;
          for (int64_t k = 0; k < s.width; ++k) {
            const double term =
                unit(c.queries, c.query_scale, b, h, i, k) * unit(c.keys, c.key_scale, b, g, j, k);
            x += term;
            size += std::abs(term);
          }
          for (int64_t v = 0; v < s.value_width; ++v)
            product += std::abs(c.out_grad.at(b, h, i, v) * c.values.at(b, g, j, v));
          const double dx = double(s.width + 4) * u * size, right = slope(x, bits);
          double error;
          if (exact.on_tensor_cores) {
            error = PairError{dx, exact}.of(x, bits, slope);
          } else {
            const double root = std::sqrt(std::max(1 - x * x, kSlopeFloor));
            error = 2 * std::max(std::abs(slope(x + dx, bits) - right),
                                 std::abs(slope(x - dx, bits) - right));
            error += (2 * bits + 8) * u * right;
            if (bits > 1)
              error += bits / (M_PI * root) * (bits - 1) * 8 * u * std::pow(closeness(x), bits - 2);
          }
          const double roundings = double(s.value_width + 8) * u;
          for (int64_t k = 0; k < s.width; ++k) {
            const double key = std::abs(unit(c.keys, c.key_scale, b, g, j, k)),
                         query = std::abs(unit(c.queries, c.query_scale, b, h, i, k));
            const auto add = [&](Buffer& to, int64_t head, int64_t row, double other, int64_t n) {
              const double sums = exact.on_tensor_cores ? exact.roundings(n) : double(n);
              const double weight = (error + right * (roundings + sums * u)) * product;
              const double term = (weight + bits * exact.smallest) * other;
              to.set(b, head, row, k, to.at(b, head, row, k) + term);
            };
            add(bound.query_grad, h, i, key, s.keys);
            add(bound.key_grad, g, j, query, s.queries * c.group());
          }
        }
      }
    }
  }
  const auto queries_close = close(c.out.query_grad, expected.query_grad, bound.query_grad, 1);
  const auto keys_close = close(c.out.key_grad, expected.key_grad, bound.key_grad, 1);
  if (!queries_close)
    return ::testing::AssertionFailure() << "query_grad" << queries_close.message();
  if (!keys_close) return ::testing::AssertionFailure() << "key_grad" << keys_close.message();
  return ::testing::AssertionSuccess();
}

class TrueGradientTest : public ::testing::TestWithParam<Shape> {};

TEST_P(TrueGradientTest, MatchesReference) {
  for (DType dtype : kFloatTypes) {
    Case c(GetParam(), dtype, Numbers::kUnit);
    c.gradient = Gradient::kTrue;
    backend::bucket_attention_grad(c.args());
    EXPECT_TRUE(true_gradient_is_right(c)) << name_of(dtype);
    EXPECT_TRUE(c.gaps_are_untouched()) << name_of(dtype);
  }
}

const Shape kTrueShapes[] = {
    {1, 1, 1, 0, 0, 1, 1, 1, 1},
    {2, 2, 2, 0, 5, 3, 2, 3, 7, kGaps},
    {2, 2, 2, 5, 0, 3, 2, 7, 3, kGaps},
    {1, 1, 1, 1, 1, 1, 1, 1, 1},
    {3, 2, 2, 2, 2, 3, 1, 3, 1, kRowsFirst},
    {1, 2, 2, 7, 8, 8, 2, 7, 8, kGaps, kRandom},
    {2, 1, 1, 8, 9, 1, 5, 8, 16, kRowsFirst, kTail, kClusters},
    {2, 2, 2, 31, 33, 32, 8, 31, 32, kRowsFirst, kRandom, kClusters},
    {1, 3, 1, 33, 31, 33, 9, 33, 65, kGaps, kTail, kClusters},
    {1, 4, 2, 65, 127, 3, 5, 64, 64, kRowsFirst, kRandom, kIdentical},
    {1, 1, 1, 33, 31, 31, 16, 100, 7, kDense, kNone, kIdentical},
    {1, 1, 1, 9, 31, 8, 11, 256, 256, kGaps, kRandom, kClusters},
    {2, 2, 2, 9, 7, 3, 2, 16, 8, kGaps, kAll},
    {35000, 2, 2, 1, 2, 2, 1, 3, 2, kRowsFirst, kRandom},
    {1, 1, 1, 9, 4097, 2, 2, 3, 2, kGaps, kRandom},
    {1, 1, 1, 1025, 31, 8, 8, 4, 3, kGaps, kTail, kClusters},
    // Tiles of the tensor cores on the GPU, of every width and with several words of planes; so many
    // buckets that pairs are visited there.
    {1, 2, 2, 200, 201, 4, 3, 32, 32, kRowsFirst, kRandom},
    {1, 2, 1, 130, 270, 33, 5, 64, 64, kRowsFirst, kTail, kClusters},
    {1, 1, 1, 131, 150, 255, 11, 128, 72, kGaps, kRandom, kClusters},
    {1, 1, 1, 600, 66, 2, 12, 64, 64, kDense, kNone, kIdentical},
};

INSTANTIATE_TEST_SUITE_P(Shapes, TrueGradientTest, ::testing::ValuesIn(kTrueShapes), shape_name);

// Parallel, opposite and zero rows, and rows a little longer than 1 (which bfloat16 has).
TEST(BucketAttentionGrad, TrueSlopeIsFiniteAtItsPoles) {
  for (DType dtype : kFloatTypes) {
    for (int64_t bits : {1, 2, 8}) {
      for (double length : {1.0, -1.0, 0.0, 1.0078125}) {
        Case c({1, 1, 1, 17, 19, 2, bits, 4, 3, kDense, kNone, kIdentical}, dtype, Numbers::kUnit,
               kNoScale);
        c.gradient = Gradient::kTrue;
        c.queries.fill([&](auto, auto, auto, int64_t k) { return k == 1 ? length : 0.0; });
        c.keys.fill([](auto, auto, auto, int64_t k) { return k == 1; });
        backend::bucket_attention_grad(c.args());
        EXPECT_TRUE(true_gradient_is_right(c)) << name_of(dtype) << " T" << bits << " " << length;
      }
    }
  }
}

// Sequences of 33, 0, 127 and 5 queries and keys: padded, ragged, and each alone.
class BucketAttentionGradBatch : public ::testing::TestWithParam<std::tuple<DType, Gradient>> {};

void copy_sequence(const Case& from, int64_t from_batch, Case& to, int64_t first_query,
                   int64_t num_queries, int64_t first_key, int64_t num_keys) {
  copy_cols(from.query_codes, from_batch, 0, to.query_codes, 0, first_query, num_queries);
  copy_cols(from.query_scale, from_batch, 0, to.query_scale, 0, first_query, num_queries);
  copy_rows(from.queries, from_batch, 0, to.queries, 0, first_query, num_queries);
  copy_rows(from.out_grad, from_batch, 0, to.out_grad, 0, first_query, num_queries);
  copy_cols(from.key_codes, from_batch, 0, to.key_codes, 0, first_key, num_keys);
  copy_cols(from.key_scale, from_batch, 0, to.key_scale, 0, first_key, num_keys);
  copy_rows(from.keys, from_batch, 0, to.keys, 0, first_key, num_keys);
  copy_rows(from.values, from_batch, 0, to.values, 0, first_key, num_keys);
}

TEST_P(BucketAttentionGradBatch, PaddedRaggedAndAloneGiveTheSameBits) {
  const auto [dtype, gradient] = GetParam();
  const std::vector<int64_t> query_lengths = {33, 0, 127, 5}, key_lengths = {40, 3, 127, 0};
  // Widths of 64 and 128 go by tensor cores on a GPU; 9 bits make sequences sparse.
  Shape shapes[] = {{4, 4, 2, 127, 130, 9, 5, 20, 33, kRowsFirst},
                    {4, 4, 2, 127, 130, 9, 5, 64, 64, kRowsFirst},
                    {4, 4, 2, 127, 130, 18, 9, 32, 32, kRowsFirst},
                    {4, 2, 2, 127, 130, 9, 2, 128, 128, kRowsFirst},
                    // Large buckets, of one side a block in one sequence alone, of both in all.
                    {4, 4, 4, 127, 130, 90, 1, 64, 64, kRowsFirst}};
  for (Shape& shape : shapes) {
    for (Tokens tokens : {kIid, kClusters, kIdentical}) {
      shape.tokens = tokens;
      Case padded(shape, dtype, Numbers::kNormal);
      padded.gradient = gradient;
      padded.query_side = Side::padded(127, query_lengths);
      padded.key_side = Side::padded(130, key_lengths);
      backend::bucket_attention_grad(padded.args());

      Shape ragged_shape = shape;
      ragged_shape.batch = 1;
      ragged_shape.queries = 165;
      ragged_shape.keys = 170;
      ragged_shape.query_lengths = query_lengths;
      ragged_shape.key_lengths = key_lengths;
      Case ragged(ragged_shape, dtype, Numbers::kNormal);
      ragged.gradient = gradient;
      int64_t first_query = 0, first_key = 0;
      for (size_t b = 0; b < 4; ++b) {
        copy_sequence(padded, static_cast<int64_t>(b), ragged, first_query, query_lengths[b],
                      first_key, key_lengths[b]);
        first_query += query_lengths[b];
        first_key += key_lengths[b];
      }
      backend::bucket_attention_grad(ragged.args());

      first_query = first_key = 0;
      for (size_t b = 0; b < 4; ++b) {
        const int64_t entry = static_cast<int64_t>(b);
        const int64_t num_queries = query_lengths[b], num_keys = key_lengths[b];
        Shape alone_shape = shape;
        alone_shape.batch = 1;
        alone_shape.queries = num_queries;
        alone_shape.keys = num_keys;
        Case alone(alone_shape, dtype, Numbers::kNormal);
        alone.gradient = gradient;
        copy_sequence(padded, entry, alone, 0, num_queries, 0, num_keys);
        backend::bucket_attention_grad(alone.args());
        EXPECT_TRUE(
            equal(slice_rows(padded.out.query_grad, entry, 0, num_queries), alone.out.query_grad))
            << b;
        EXPECT_TRUE(equal(slice_rows(padded.out.key_grad, entry, 0, num_keys), alone.out.key_grad))
            << b;
        EXPECT_TRUE(equal(slice_rows(ragged.out.query_grad, 0, first_query, num_queries),
                          alone.out.query_grad))
            << b;
        EXPECT_TRUE(
            equal(slice_rows(ragged.out.key_grad, 0, first_key, num_keys), alone.out.key_grad))
            << b;
        first_query += num_queries;
        first_key += num_keys;
      }
    }
  }
}

TEST_P(BucketAttentionGradBatch, AnyNumberOfThreadsGivesTheSameBits) {
  const auto [dtype, gradient] = GetParam();
  const int64_t threads = cpu::num_threads();
  // Few groups with many tokens, then many groups: the work is split in both ways.
  for (Shape shape : {Shape{1, 2, 1, 1500, 1501, 9, 6, 16, 17, kRowsFirst, kRandom},
                      Shape{1, 1, 1, 1500, 1501, 9, 6, 32, 33, kDense, kNone, kClusters},
                      Shape{1, 1, 1, 1000, 1001, 3, 6, 16, 16, kDense, kNone, kIdentical},
                      Shape{1, 1, 1, 9000, 9001, 2, 2, 8, 8, kDense, kNone, kIdentical},
                      Shape{5, 4, 2, 127, 130, 9, 5, 24, 33, kGaps, kTail, kClusters}}) {
    if (gradient == Gradient::kTrue) {  // quadratic when tokens are alike
      shape.queries = std::min<int64_t>(shape.queries, 300);
      shape.keys = std::min<int64_t>(shape.keys, 301);
    }
    cpu::set_num_threads(1);
    Case one(shape, dtype, Numbers::kNormal);
    one.gradient = gradient;
    backend::bucket_attention_grad(one.args());
    for (int64_t count : {1, 2, 5}) {
      cpu::set_num_threads(count);
      Case again(shape, dtype, Numbers::kNormal);
      again.gradient = gradient;
      backend::bucket_attention_grad(again.args());
      EXPECT_TRUE(equal(again.out.query_grad, one.out.query_grad)) << count << name_of(shape);
      EXPECT_TRUE(equal(again.out.key_grad, one.out.key_grad)) << count << name_of(shape);
    }
  }
  cpu::set_num_threads(threads);
}

INSTANTIATE_TEST_SUITE_P(Types, BucketAttentionGradBatch,
                         ::testing::Combine(::testing::ValuesIn(kFloatTypes),
                                            ::testing::Values(Gradient::kSurrogate,
                                                              Gradient::kTrue)),
                         [](const auto& info) {
                           return join(
                               name_of(std::get<0>(info.param)),
                               std::get<1>(info.param) == Gradient::kTrue ? "_true" : "_surrogate");
                         });

// The mean over codes of the surrogate is the formula with (1 - acos(x)/pi)^T in place of the
// collisions, and four times the hashes halve the error.
TEST(BucketAttentionGrad, ApproachesTheExpectationAsHashesGrow) {
  const int64_t n = 32, width = 16, bits = 4;
  const Shape shape{1, 1, 1, n, n, 1, bits, width, 3};
  Case c(shape, kWidest, Numbers::kUnit, kNoScale);
  Gradients expected{c.out.query_grad.widened(), c.out.key_grad.widened()};
  expected.query_grad.fill([](auto...) { return 0; });
  expected.key_grad.fill([](auto...) { return 0; });
  double expected_square = 0;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double x = 0, product = 0;
      for (int64_t k = 0; k < width; ++k) x += c.queries.at(0, 0, i, k) * c.keys.at(0, 0, j, k);
      for (int64_t v = 0; v < 3; ++v)
        product += c.out_grad.at(0, 0, i, v) * c.values.at(0, 0, j, v);
      const double s = bits / 2.0 * std::pow(1 - std::acos(x) / M_PI, double(bits)) * product;
      for (int64_t k = 0; k < width; ++k) {
        expected.query_grad.set(0, 0, i, k,
                                expected.query_grad.at(0, 0, i, k) + s * c.keys.at(0, 0, j, k));
        expected.key_grad.set(0, 0, j, k,
                              expected.key_grad.at(0, 0, j, k) + s * c.queries.at(0, 0, i, k));
      }
    }
  }
  for (const Buffer* x : {&expected.query_grad, &expected.key_grad})
    x->for_each([&](auto... at) { expected_square += std::pow(x->at(at...), 2); });

  const auto error_with = [&](int64_t hashes, uint64_t seed) {
    c.shape.hashes = hashes;
    const auto codes_of = [&](const Buffer& x) {
      Buffer codes(DType::kUint8, 1, 1, hashes, n);
      Hash hash{x.array(), codes.array(), bits, Projection::kGaussian, nullptr, 1};
      const std::vector<float> projections = draw_projections(hash.shape(), 1, seed);
      hash.projections = projections.data();
      backend::hash(hash);
      return codes;
    };
    c.query_codes = codes_of(c.queries);
    c.key_codes = codes_of(c.keys);
    backend::bucket_attention_grad(c.args());
    double square = 0;
    c.out.query_grad.for_each([&](auto... at) {
      square += std::pow(c.out.query_grad.at(at...) - expected.query_grad.at(at...), 2);
      square += std::pow(c.out.key_grad.at(at...) - expected.key_grad.at(at...), 2);
    });
    return std::sqrt(square / expected_square);
  };
  const auto mean_error = [&](int64_t hashes) {
    double sum = 0;
    for (uint64_t seed = 0; seed < 16; ++seed) sum += error_with(hashes, seed) / 16;
    return sum;
  };
  const double at_64 = mean_error(64), at_256 = mean_error(256), at_1024 = mean_error(1024);
  EXPECT_NEAR(at_64 / at_256, 2, 0.3);
  EXPECT_NEAR(at_256 / at_1024, 2, 0.3);
  EXPECT_LT(at_1024, 0.2);
}

// Gradients as one would write them in bfloat16: the product of a pair is rounded, sums are float,
// and the result is rounded.
Gradients plain_bfloat16(const Case& c) {
  const Shape& s = c.shape;
  const auto rows_of = [&](const Buffer& x) {
    std::vector<float> rows(static_cast<size_t>(x.rows() * s.width));
    x.for_each([&](int64_t, int64_t, int64_t i, int64_t k) {
      rows[static_cast<size_t>(i * s.width + k)] = static_cast<float>(x.at(0, 0, i, k));
    });
    return rows;
  };
  const auto q = rows_of(c.queries), k = rows_of(c.keys), v = rows_of(c.values),
             g = rows_of(c.out_grad);
  std::vector<float> query_sums(q.size()), key_sums(k.size());
  for (int64_t m = 0; m < s.hashes; ++m) {
    std::vector<std::vector<int64_t>> buckets(size_t{1} << s.bits);
    for (int64_t j = 0; j < s.keys; ++j) {
      buckets[static_cast<size_t>(c.key_codes.at(0, 0, m, j))].push_back(j);
    }
    for (int64_t i = 0; i < s.queries; ++i) {
      for (int64_t j : buckets[static_cast<size_t>(c.query_codes.at(0, 0, m, i))]) {
        float product = 0;
        for (int64_t x = 0; x < s.width; ++x) product += g[i * s.width + x] * v[j * s.width + x];
        product = to_float(from_float<BFloat16>(product));
        for (int64_t x = 0; x < s.width; ++x) {
          query_sums[i * s.width + x] += product * k[j * s.width + x];
          key_sums[j * s.width + x] += product * q[i * s.width + x];
        }
      }
    }
  }
  Gradients grad = c.out;
  const double factor = double(s.bits) / double(2 * s.hashes);
  grad.query_grad.fill([&](int64_t, int64_t, int64_t i, int64_t x) {
    return factor * double{query_sums[static_cast<size_t>(i * s.width + x)]};
  });
  grad.key_grad.fill([&](int64_t, int64_t, int64_t i, int64_t x) {
    return factor * double{key_sums[static_cast<size_t>(i * s.width + x)]};
  });
  return grad;
}

// Against the CPU's gradients in double, which the tests above compare with the reference. Training
// wants the direction: a cosine of 0.999 leaves 4.5 % of noise, far below that of the hashes.
TEST(BucketAttentionGrad, LongSequencesInBFloat16PointWhereTheExactGradientDoes) {
  for (int64_t n : {1024, 4096, 32768}) {
    if (n > 4096 && !kOnGpu) break;  // seconds, for nothing that shorter ones do not show
    Case c({1, 1, 1, n, n, 32, 8, 64, 64}, DType::kBFloat16, Numbers::kNormal, kNoScale);
    fill_unit(c.queries, 11);
    fill_unit(c.keys, 12);
    backend::bucket_attention_grad(c.args());
    Case exact = c;
    for (Buffer* x : {&exact.queries, &exact.keys, &exact.values, &exact.out_grad,
                      &exact.out.query_grad, &exact.out.key_grad}) {
      *x = x->widened();
    }
    cpu::bucket_attention_grad(exact.args());
    const bool with_plain = n <= 4096;
    const Gradients plain = with_plain ? plain_bfloat16(c) : Gradients{};
    for (Buffer Gradients::*side : {&Gradients::query_grad, &Gradients::key_grad}) {
      double product = 0, square = 0, exact_square = 0, error = 0, plain_error = 0;
      (c.out.*side).for_each([&](auto... at) {
        const double x = (c.out.*side).at(at...), y = (exact.out.*side).at(at...);
        product += x * y, square += x * x, exact_square += y * y, error += (x - y) * (x - y);
        if (with_plain) plain_error += std::pow((plain.*side).at(at...) - y, 2);
      });
      EXPECT_GT(product / std::sqrt(square * exact_square), 0.999) << n;
      if (with_plain) {
        EXPECT_LT(std::sqrt(error), 2 * std::sqrt(plain_error)) << n;
      }
    }
  }
}

TEST(BucketAttentionGradCheck, SaysWhatIsWrong) {
  const struct {
    std::string message;
    void (*spoil)(BucketAttentionGrad&);
  } kMistakes[] = {
      {"no error", [](BucketAttentionGrad&) {}},
      {"code_bits is 17, expected 1 to 16", [](BucketAttentionGrad& a) { a.code_bits = 17; }},
      {"query_codes is uint8, expected uint16", [](BucketAttentionGrad& a) { a.code_bits = 9; }},
      {"key_codes is uint16, expected uint8",
       [](BucketAttentionGrad& a) { a.key_codes.dtype = DType::kUint16; }},
      {"query_codes.rows (hashes) is 0, expected at least 1",
       [](BucketAttentionGrad& a) { a.query_codes.rows = 0; }},
      {"key_codes.batch is 3, expected query_codes.batch = 1",
       [](BucketAttentionGrad& a) { a.key_codes.batch = 3; }},
      {"key_codes.rows is 2, expected query_codes.rows = 3",
       [](BucketAttentionGrad& a) { a.key_codes.rows = 2; }},
      {"queries.heads is 4, expected a multiple of keys.heads = 3",
       [](BucketAttentionGrad& a) { a.key_codes.heads = 3; }},
      {"queries.heads is 4, expected a multiple of keys.heads = 8",
       [](BucketAttentionGrad& a) { a.key_codes.heads = 8; }},
      {"queries.heads is 0, expected a positive multiple of keys.heads = 2",
       [](BucketAttentionGrad& a) { a.query_codes.heads = 0; }},
      {"queries.cols is 257, expected 1 to 256",
       [](BucketAttentionGrad& a) { a.queries.cols = 257; }},
      {"values.cols is 0, expected 1 to 256", [](BucketAttentionGrad& a) { a.values.cols = 0; }},
      {"queries.rows is 6, expected 5", [](BucketAttentionGrad& a) { a.queries.rows = 6; }},
      {"keys.cols is 9, expected 8", [](BucketAttentionGrad& a) { a.keys.cols = 9; }},
      {"keys.rows is 6, expected 7", [](BucketAttentionGrad& a) { a.keys.rows = 6; }},
      {"keys.heads is 1, expected 2", [](BucketAttentionGrad& a) { a.keys.heads = 1; }},
      {"values.rows is 6, expected 7", [](BucketAttentionGrad& a) { a.values.rows = 6; }},
      {"keys is float16, expected float32",
       [](BucketAttentionGrad& a) { a.keys.dtype = DType::kFloat16; }},
      {"values is bfloat16, expected float32",
       [](BucketAttentionGrad& a) { a.values.dtype = DType::kBFloat16; }},
      {"query_scale is float64, expected float32",
       [](BucketAttentionGrad& a) { a.query_scale.dtype = DType::kFloat64; }},
      {"query_scale is absent, expected a scale, for of_rows",
       [](BucketAttentionGrad& a) {
         a.of_rows = true;
         a.query_scale = {};
       }},
      {"key_scale.rows is 2, expected 1", [](BucketAttentionGrad& a) { a.key_scale.rows = 2; }},
      {"key_scale.cols is 6, expected 7", [](BucketAttentionGrad& a) { a.key_scale.cols = 6; }},
      {"out_grad is float64, expected a type that goes with float32",
       [](BucketAttentionGrad& a) { a.out_grad.dtype = DType::kFloat64; }},
      {"out_grad.cols is 7, expected 6", [](BucketAttentionGrad& a) { a.out_grad.cols = 7; }},
      {"query_grad.cols is 7, expected 8", [](BucketAttentionGrad& a) { a.query_grad.cols = 7; }},
      {"key_grad.heads is 4, expected 2", [](BucketAttentionGrad& a) { a.key_grad.heads = 4; }},
      {"query_codes is null, expected an array",
       [](BucketAttentionGrad& a) { a.query_codes.data = nullptr; }},
      {"key_codes is null, expected an array",
       [](BucketAttentionGrad& a) { a.key_codes.data = nullptr; }},
      {"query_grad is null, expected an array",
       [](BucketAttentionGrad& a) { a.query_grad.data = nullptr; }},
      {"key_grad is null, expected an array",
       [](BucketAttentionGrad& a) { a.key_grad.data = nullptr; }},
      {"queries is null, expected an array",
       [](BucketAttentionGrad& a) { a.queries.data = nullptr; }},
      {"key_rows.offsets is absent, expected offsets for both sides or for none",
       [](BucketAttentionGrad& a) {
         static const int64_t offsets[] = {0, 5};
         a.query_rows.offsets = offsets;
         a.query_rows.sequences = 1;
       }},
      {"key_rows.offsets[1] is 6, expected the number of rows = 7",
       [](BucketAttentionGrad& a) {
         static const int64_t queries[] = {0, 5}, keys[] = {0, 6};
         a.query_rows.offsets = queries;
         a.key_rows.offsets = keys;
         a.query_rows.sequences = a.key_rows.sequences = 1;
       }},
  };
  for (const auto& mistake : kMistakes) {
    for (auto* run : {reference::bucket_attention_grad, backend::bucket_attention_grad}) {
      Case c({1, 4, 2, 5, 7, 3, 2, 8, 6}, DType::kFloat32);
      BucketAttentionGrad a = c.args();
      mistake.spoil(a);
      const bool wrong = mistake.message != "no error";
      EXPECT_EQ(error_of([&] { run(a); }),
                (wrong ? "bucket_attention_grad: " : "") + mistake.message);
      if (wrong) {
        EXPECT_TRUE(std::isnan(c.out.query_grad.at(0, 0, 0, 0))) << "something was written";
        EXPECT_TRUE(std::isnan(c.out.key_grad.at(0, 0, 0, 0))) << "something was written";
      }
    }
  }
}

}  // namespace
}  // namespace yoso
