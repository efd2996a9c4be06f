// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/bucket_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "yoso/cpu/parallel.h"
#include "yoso/ops/backend_testing.h"
#include "yoso/ops/hash.h"
#include "yoso/ops/testing.h"

namespace yoso {
namespace {

using namespace yoso::testing;

enum class Numbers : uint8_t { kWhole, kNormal };

// One call, with whole or normal values; what is masked holds garbage.
struct Case {
  Shape shape;
  Side query_side, key_side;
  Buffer query_codes, key_codes, values, out;

  Case(const Shape& s, DType dtype, Numbers numbers = Numbers::kWhole)
      : Case(s, dtype, dtype, numbers) {}

  Case(const Shape& s, DType dtype, DType out_dtype, Numbers numbers)
      : shape(s),
        query_side(s.query_side()),
        key_side(s.key_side()),
        query_codes(code_dtype(s.bits), s.batch, s.query_heads, s.hashes, s.queries, s.layout),
        key_codes(code_dtype(s.bits), s.batch, s.key_heads, s.hashes, s.keys, s.layout),
        values(dtype, s.batch, s.key_heads, s.keys, s.value_width, s.layout),
        out(out_dtype, s.batch, s.query_heads, s.queries, s.value_width, s.layout) {
    fill_codes(query_codes, s.bits, 1, s.tokens);
    fill_codes(key_codes, s.bits, 2, s.tokens);
    numbers == Numbers::kWhole ? fill_whole(values, 3) : fill_normal(values, 3);
    spoil_masked_columns(query_codes, query_side);
    spoil_masked_columns(key_codes, key_side);
    spoil_masked_rows(values, key_side);
  }

  BucketAttention args() {
    return {query_codes.array(), key_codes.array(), values.array(),  out.array(),
            shape.bits,          query_side.rows(), key_side.rows(), tested_pairs_up_to()};
  }

  // The reference in double on `numbers` in place of the values.
  Buffer reference_of(const Buffer& numbers) {
    Buffer result(DType::kFloat64, out.batch(), out.heads(), out.rows(), out.cols());
    BucketAttention a = args();
    a.values = numbers.array();
    a.out = result.array();
    reference::bucket_attention(a);
    return result;
  }

  // Whether `out` is the mean of the sums. Whole values: the sum of a bucket is exact, then come
  // the share 1/M, a product with it and a sum for each hash and key head. Normal values: each key
  // is one more term.
  ::testing::AssertionResult is_right(Numbers numbers, const Buffer& expected,
                                      const Buffer& magnitude) const {
    const int64_t heads =
        std::max<int64_t>(1, shape.key_heads / std::max<int64_t>(1, shape.query_heads));
    int64_t roundings = shape.hashes * heads + 2;
    if (numbers == Numbers::kNormal) roundings += shape.keys * heads;
    double factor = double(roundings) * unit_roundoff(accumulator(values.dtype()));
    // Tables on the GPU round the sum of a bucket to bfloat16 where the values are bfloat16.
    if (kOnGpu && values.dtype() == DType::kBFloat16) factor += unit_roundoff(values.dtype());
    return close(out, expected, magnitude, factor);
  }
  ::testing::AssertionResult is_right(Numbers numbers) {
    return is_right(numbers, reference_of(values.widened()), reference_of(values.magnitudes()));
  }
};

class BucketAttentionTest : public ::testing::TestWithParam<Shape> {};

TEST_P(BucketAttentionTest, MatchesReference) {
  // Whole numbers are the same numbers in every type.
  Case wide(GetParam(), DType::kFloat64);
  const Buffer expected = wide.reference_of(wide.values);
  const Buffer magnitude = wide.reference_of(wide.values.magnitudes());
  for (DType dtype : kFloatTypes) {
    Case c(GetParam(), dtype);
    backend::bucket_attention(c.args());
    EXPECT_TRUE(c.is_right(Numbers::kWhole, expected, magnitude)) << name_of(dtype);
    EXPECT_TRUE(c.out.gaps_are_untouched()) << name_of(dtype);
  }
}

constexpr Layout kDense = Layout::kDense, kRowsFirst = Layout::kRowsFirst, kGaps = Layout::kGaps;
constexpr Mask kNone = Mask::kNone, kTail = Mask::kTail, kRandom = Mask::kRandom, kAll = Mask::kAll;
constexpr Tokens kIid = Tokens::kIid, kClusters = Tokens::kClusters,
                 kIdentical = Tokens::kIdentical;

// {B, Hq, Hk, Nq, Nk, M, T, D, V, layout, mask, tokens, query lengths, key lengths}; D is not used.
const Shape kShapes[] = {
    // Lengths from 0.
    {1, 1, 1, 0, 0, 1, 1, 1, 1},
    {2, 2, 2, 0, 5, 3, 2, 1, 7, kGaps},
    {2, 2, 2, 5, 0, 3, 2, 1, 7, kGaps},
    {0, 2, 2, 5, 5, 3, 2, 1, 7},
    {2, 0, 0, 5, 5, 3, 2, 1, 7},
    {1, 1, 1, 1, 1, 1, 1, 1, 1},
    {3, 2, 2, 2, 2, 3, 1, 1, 3, kRowsFirst},
    {1, 2, 2, 7, 8, 8, 2, 1, 8, kGaps, kRandom},
    {2, 1, 1, 8, 7, 8, 2, 1, 16, kRowsFirst, kTail},
    {1, 2, 2, 9, 31, 31, 5, 1, 31, kGaps, kNone, kClusters},
    {2, 2, 2, 31, 33, 32, 8, 1, 32, kRowsFirst, kRandom},
    {2, 3, 3, 33, 9, 33, 8, 1, 33, kGaps, kTail, kClusters},
    {1, 2, 2, 127, 127, 32, 8, 1, 64, kRowsFirst, kRandom, kClusters},
    {1, 1, 1, 127, 33, 3, 9, 1, 65, kGaps, kRandom, kClusters},
    {1, 1, 1, 1023, 1025, 3, 8, 1, 33, kRowsFirst, kTail},
    {1, 1, 1, 1025, 1023, 8, 11, 1, 8, kDense, kRandom, kClusters},
    // Wide values.
    {1, 2, 2, 33, 31, 8, 5, 1, 100, kRowsFirst, kRandom},
    {1, 2, 2, 31, 33, 3, 2, 1, 128, kRowsFirst, kNone, kClusters},
    {1, 2, 2, 9, 127, 3, 5, 1, 255, kGaps, kTail},
    {2, 1, 1, 33, 33, 8, 5, 1, 256, kGaps, kRandom, kClusters},
    // Tiles of a sequence (yoso/ops/tile_tables.h): 1,536 keys, one more, several.
    {1, 2, 2, 33, 1537, 5, 8, 1, 64, kRowsFirst, kRandom},
    {2, 1, 1, 1030, 1536, 9, 8, 1, 32, kDense, kTail, kClusters},
    {1, 1, 2, 9, 3100, 3, 8, 1, 128, kRowsFirst, kNone, kIdentical},
    {1,
     2,
     1,
     40,
     3200,
     6,
     8,
     1,
     64,
     kRowsFirst,
     kRandom,
     kClusters,
     {31, 0, 1, 8},
     {3, 1600, 0, 1597}},
    // Many buckets, and one.
    {1, 2, 2, 127, 127, 3, 16, 1, 7, kGaps, kRandom, kClusters},
    {1, 1, 1, 33, 33, 1, 16, 1, 64, kDense, kNone, kIdentical},
    {1, 1, 1, 9, 9, 31, 11, 1, 100, kRowsFirst, kTail, kClusters},
    {1, 2, 2, 127, 1023, 3, 8, 1, 3, kGaps, kRandom, kIdentical},
    // Several words of planes of bits (yoso/ops/collision_sums.h), and half a one.
    {1, 2, 1, 140, 70, 70, 12, 1, 32, kRowsFirst, kRandom, kClusters},
    {1, 1, 1, 70, 140, 255, 16, 1, 64, kGaps, kTail, kClusters},
    {1, 1, 1, 66, 130, 16, 3, 1, 128, kRowsFirst, kRandom, kIdentical},
    // Grouped heads, in both directions.
    {2, 4, 2, 7, 9, 3, 2, 1, 8, kRowsFirst, kRandom},
    {1, 6, 1, 33, 31, 8, 5, 1, 65, kGaps, kTail, kClusters},
    {2, 2, 4, 7, 9, 3, 2, 1, 8, kRowsFirst, kRandom},
    {1, 1, 6, 31, 33, 8, 5, 1, 65, kGaps, kTail, kClusters},
    // All masked.
    {2, 2, 2, 9, 7, 3, 2, 1, 16, kGaps, kAll},
    {1, 4, 2, 33, 127, 8, 8, 1, 33, kRowsFirst, kAll, kIdentical},
    // Ragged, with empty sequences and sides.
    {1, 2, 2, 0, 0, 3, 2, 1, 8, kDense, kNone, kIid, {0}, {0}},
    {1, 2, 2, 40, 39, 3, 2, 1, 8, kRowsFirst, kNone, kClusters, {0, 31, 0, 1, 8}, {3, 33, 0, 0, 3}},
    {1, 4, 2, 40, 39, 8, 8, 1, 33, kGaps, kRandom, kClusters, {0, 31, 0, 1, 8}, {3, 33, 0, 0, 3}},
    {1, 1, 2, 7, 130, 3, 5, 1, 100, kGaps, kTail, kClusters, {2, 5}, {127, 3}},
    // More than 65,535 groups.
    {35000, 2, 2, 1, 2, 3, 1, 1, 3, kRowsFirst, kRandom},
    {2, 35000, 35000, 2, 1, 1, 2, 1, 1},
    // Long.
    {1, 1, 1, 65537, 9, 3, 8, 1, 8, kRowsFirst, kRandom, kClusters},
    {1, 1, 1, 9, 65537, 3, 2, 1, 8, kGaps, kRandom},
    {1, 1, 1, 7, 65537, 2, 16, 1, 1, kDense, kTail, kIdentical},
};

INSTANTIATE_TEST_SUITE_P(Shapes, BucketAttentionTest, ::testing::ValuesIn(kShapes), shape_name);

TEST(BucketAttention, ReferenceRoundsItsSumsOnce) {
  for (DType dtype : kFloatTypes) {
    Case c({1, 2, 1, 5, 7, 3, 2, 1, 4}, dtype, Numbers::kNormal);
    reference::bucket_attention(c.args());
    Buffer rounded = c.out;
    const Buffer wide = c.reference_of(c.values.widened());
    rounded.fill([&](auto... at) { return wide.at(at...); });
    EXPECT_TRUE(equal(c.out, rounded)) << name_of(dtype);
  }
}

TEST(BucketAttention, SumsNormalValuesInEveryType) {
  for (DType dtype : kFloatTypes) {
    for (const Shape& shape :
         {Shape{2, 2, 2, 127, 130, 9, 5, 1, 64, kRowsFirst, kRandom, kClusters},
          Shape{1, 2, 2, 127, 1700, 9, 8, 1, 64, kRowsFirst, kRandom},
          Shape{1, 2, 2, 127, 1700, 9, 8, 1, 64, kRowsFirst, kRandom, kClusters},
          Shape{1, 2, 2, 127, 1700, 9, 8, 1, 64, kRowsFirst, kRandom, kIdentical}}) {
      Case c(shape, dtype, Numbers::kNormal);
      backend::bucket_attention(c.args());
      EXPECT_TRUE(c.is_right(Numbers::kNormal)) << name_of(dtype) << ", " << name_of(shape);
    }
  }
}

// Of one column of one key, into its buckets and no further.
TEST(BucketAttention, WhatIsNotFiniteStaysInItsColumn) {
  for (DType dtype : kFloatTypes) {
    for (const auto& [bits, tokens] :
         {std::pair{5, kIid}, std::pair{8, kIid}, std::pair{8, kClusters}}) {
      Case c({1, 2, 2, 127, 1700, 9, bits, 1, 64, kRowsFirst, kRandom, tokens}, dtype,
             Numbers::kNormal);
      c.values.set(0, 0, 3, 17, std::numeric_limits<double>::infinity());
      c.values.set(0, 1, 1650, 40, std::numeric_limits<double>::quiet_NaN());
      backend::bucket_attention(c.args());
      Buffer expected = c.reference_of(c.values.widened()),
             magnitude = c.reference_of(c.values.magnitudes());
      int64_t spoiled = 0, different = 0;
      expected.for_each([&](auto... at) {
        const double right = expected.at(at...);
        different += std::isfinite(right) != std::isfinite(c.out.at(at...));
        if (std::isfinite(right)) return;
        ++spoiled;
        for (Buffer* buffer : {&expected, &magnitude, &c.out}) buffer->set(at..., 0);
      });
      EXPECT_GT(spoiled, 0);
      EXPECT_EQ(different, 0) << name_of(dtype) << ", T = " << bits << ", " << name_of(tokens);
      EXPECT_TRUE(c.is_right(Numbers::kNormal, expected, magnitude)) << name_of(dtype);
    }
  }
}

// One bucket holds millions of equal values: sums in chains of up to c terms and then of n / c are
// within (c + n / c) u, at most 5,120 u for c from 1,024 to 4,096; a single chain of floats loses
// 0.7 % here.
TEST(BucketAttention, StaysAccurateInOneLongBucket) {
  const int64_t n = int64_t{1} << 22;
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    Buffer query_codes(DType::kUint8, 1, 1, 1, 3), key_codes(DType::kUint8, 1, 1, 1, n),
        value(dtype, 1, 1, 1, 32), out(dtype, 1, 1, 3, 32);
    query_codes.fill([](auto...) { return 5; });
    key_codes.fill([](auto...) { return 5; });
    value.fill([](auto...) { return 1.0078125; });
    BucketAttention a{query_codes.array(), key_codes.array(), value.array(), out.array(), 8};
    a.values.rows = n;
    a.values.row_stride = 0;
    backend::bucket_attention(a);
    const double sum = 1.0078125 * static_cast<double>(n);
    EXPECT_NEAR(out.at(0, 0, 0, 0), sum, sum * (5120 * 0x1p-24 + 2 * unit_roundoff(dtype)))
        << name_of(dtype);
    EXPECT_EQ(out.at(0, 0, 2, 31), out.at(0, 0, 0, 0));
  }
}

// 17 tables of 65,536 buckets and 64 columns are 272 MiB of floats: more than need fit at once.
TEST(BucketAttention, SumsByManyLargeTables) {
  Case c({1, 1, 1, 3, 2100, 17, 16, 1, 64, kDense, kNone, kIdentical}, DType::kFloat32);
  backend::bucket_attention(c.args());
  EXPECT_TRUE(c.is_right(Numbers::kWhole));
}

TEST(BucketAttention, OutputMayBeAnotherTypeThanValues) {
  const DType kTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16};
  for (DType dtype : kTypes) {
    for (DType out_dtype : kTypes) {
      Case c({1, 2, 2, 33, 31, 3, 2, 1, 33}, dtype, out_dtype, Numbers::kNormal);
      backend::bucket_attention(c.args());
      EXPECT_TRUE(c.is_right(Numbers::kNormal)) << name_of(dtype) << " to " << name_of(out_dtype);
    }
  }
}

// The figure of the paper: T = 2, M = 1, eight tokens.
TEST(BucketAttention, SumsTheBucketsOfThePapersFigure) {
  const uint8_t key_codes[] = {3, 3, 1, 2, 0, 3, 0, 1};
  const uint8_t query_codes[] = {3, 2, 0, 2, 2, 1, 3, 0};
  // Value j is 2^j, so that a sum names its terms: v0 + v1 + v5, v3, v4 + v6, ...
  const float values[] = {1, 2, 4, 8, 16, 32, 64, 128};
  const float expected[] = {35, 8, 80, 8, 8, 132, 35, 80};
  for (auto* run : {reference::bucket_attention, backend::bucket_attention}) {
    float out[8] = {};
    BucketAttention a;
    a.query_codes = dense(query_codes, 1, 1, 1, 8);
    a.key_codes = dense(key_codes, 1, 1, 1, 8);
    a.values = dense(values, 1, 1, 8, 1);
    a.out = dense(out, 1, 1, 8, 1);
    a.code_bits = 2;
    run(a);
    for (int i = 0; i < 8; ++i) EXPECT_EQ(out[i], expected[i]) << i;
  }
}

TEST(BucketAttention, IsLinearInValues) {
  // Whole values and M = 4: every number here is exact.
  Case x({1, 2, 2, 33, 31, 4, 2, 1, 9}, DType::kFloat32), y = x, sum = x;
  fill_whole(y.values, 8);
  sum.values.fill([&](auto... at) { return 2 * x.values.at(at...) - 3 * y.values.at(at...); });
  for (Case* c : {&x, &y, &sum}) backend::bucket_attention(c->args());
  Buffer expected = sum.out;
  expected.fill([&](auto... at) { return 2 * x.out.at(at...) - 3 * y.out.at(at...); });
  EXPECT_TRUE(equal(sum.out, expected));
}

// <w, A v> = <A' w, v>, A' with queries and keys swapped: also for grouped heads.
TEST(BucketAttention, SwappingRolesIsTheAdjoint) {
  for (const Shape& shape : {Shape{2, 2, 2, 33, 31, 4, 3, 1, 9, kDense, kRandom},
                             Shape{1, 4, 2, 33, 31, 4, 3, 1, 9, kDense, kTail, kClusters}}) {
    Case c(shape, kWidest);
    backend::bucket_attention(c.args());
    Buffer w(kWidest, shape.batch, shape.query_heads, shape.queries, shape.value_width);
    fill_whole(w, 9);
    Buffer pulled(kWidest, shape.batch, shape.key_heads, shape.keys, shape.value_width);
    BucketAttention adjoint = c.args();
    std::swap(adjoint.query_codes, adjoint.key_codes);
    std::swap(adjoint.query_rows, adjoint.key_rows);
    adjoint.values = std::as_const(w).array();
    adjoint.out = pulled.array();
    backend::bucket_attention(adjoint);

    // Whole numbers over M = 4: exact.
    double left = 0, right = 0;
    w.for_each([&](auto... at) { left += w.at(at...) * c.out.at(at...); });
    pulled.for_each([&](int64_t b, int64_t h, int64_t i, int64_t v) {
      if (c.key_side.is_real(b, i)) right += pulled.at(b, h, i, v) * c.values.at(b, h, i, v);
    });
    EXPECT_NE(left, 0);
    EXPECT_EQ(left, right) << name_of(shape);
  }
}

TEST(BucketAttention, OrderOfKeysChangesNothing) {
  Case c({1, 2, 2, 33, 127, 4, 3, 1, 9}, DType::kFloat32), turned = c;
  const auto other = [](int64_t j) { return (j * 50 + 3) % 127; };
  turned.key_codes.fill([&](int64_t b, int64_t h, int64_t m, int64_t j) {
    return c.key_codes.at(b, h, m, other(j));
  });
  turned.values.fill(
      [&](int64_t b, int64_t h, int64_t j, int64_t v) { return c.values.at(b, h, other(j), v); });
  backend::bucket_attention(c.args());
  backend::bucket_attention(turned.args());
  EXPECT_TRUE(equal(turned.out, c.out));
}

TEST(BucketAttention, MaskedQueriesAndQueriesWithoutKeysGiveZeros) {
  Case c({1, 1, 1, 33, 31, 3, 2, 1, 9, kDense, kRandom}, DType::kFloat32);
  c.key_codes.fill([](auto...) { return 0; });
  c.query_codes.fill([](int64_t, int64_t, int64_t, int64_t i) { return i % 2; });
  c.values.fill([](auto...) { return 1; });
  backend::bucket_attention(c.args());
  c.out.for_each([&](int64_t b, int64_t h, int64_t i, int64_t v) {
    const bool meets = c.query_side.is_real(b, i) && i % 2 == 0;
    EXPECT_EQ(c.out.at(b, h, i, v) > 0, meets) << i;
    if (!meets) {
      EXPECT_EQ(c.out.at(b, h, i, v), 0) << i;
    }
  });
}

TEST(BucketAttention, InputsMayBeBroadcastAndReversed) {
  Case c({3, 2, 2, 9, 7, 3, 2, 1, 5}, DType::kFloat32);
  // The batch shares the values of its first entry, whose rows are read backwards.
  BucketAttention a = c.args();
  a.values.data = a.values.row<float>(0, 0, 6);
  a.values.row_stride *= -1;
  a.values.batch_stride = 0;
  backend::bucket_attention(a);
  Buffer copied = c.values;
  copied.fill(
      [&](int64_t, int64_t h, int64_t i, int64_t v) { return c.values.at(0, h, 6 - i, v); });
  const Buffer expected = c.reference_of(copied.widened());
  EXPECT_TRUE(close(c.out, expected, c.reference_of(copied.magnitudes()), 5 * 0x1p-24));
}

// Sequences of 33, 0, 127 and 5 queries and as different numbers of keys: padded, ragged, and each
// alone.
class BucketAttentionBatch : public ::testing::TestWithParam<DType> {};

void expect_same_bits(const Shape& shape, DType dtype, const std::vector<int64_t>& key_lengths) {
  const std::vector<int64_t> query_lengths = {33, 0, 127, 5};
  Case padded(shape, dtype, Numbers::kNormal);
  padded.query_side = Side::padded(shape.queries, query_lengths);
  padded.key_side = Side::padded(shape.keys, key_lengths);
  backend::bucket_attention(padded.args());

  Shape ragged_shape = shape;
  ragged_shape.batch = 1;
  ragged_shape.queries = std::reduce(query_lengths.begin(), query_lengths.end());
  ragged_shape.keys = std::reduce(key_lengths.begin(), key_lengths.end());
  ragged_shape.query_lengths = query_lengths;
  ragged_shape.key_lengths = key_lengths;
  Case ragged(ragged_shape, dtype, Numbers::kNormal);
  int64_t first_query = 0, first_key = 0;
  for (size_t b = 0; b < 4; ++b) {
    const int64_t entry = static_cast<int64_t>(b);
    copy_cols(padded.query_codes, entry, 0, ragged.query_codes, 0, first_query, query_lengths[b]);
    copy_cols(padded.key_codes, entry, 0, ragged.key_codes, 0, first_key, key_lengths[b]);
    copy_rows(padded.values, entry, 0, ragged.values, 0, first_key, key_lengths[b]);
    first_query += query_lengths[b];
    first_key += key_lengths[b];
  }
  backend::bucket_attention(ragged.args());

  first_query = 0;
  for (size_t b = 0; b < 4; ++b) {
    const int64_t entry = static_cast<int64_t>(b);
    Shape alone_shape = shape;
    alone_shape.batch = 1;
    alone_shape.queries = query_lengths[b];
    alone_shape.keys = key_lengths[b];
    Case alone(alone_shape, dtype, Numbers::kNormal);
    copy_cols(padded.query_codes, entry, 0, alone.query_codes, 0, 0, query_lengths[b]);
    copy_cols(padded.key_codes, entry, 0, alone.key_codes, 0, 0, key_lengths[b]);
    copy_rows(padded.values, entry, 0, alone.values, 0, 0, key_lengths[b]);
    backend::bucket_attention(alone.args());
    EXPECT_TRUE(equal(slice_rows(padded.out, entry, 0, query_lengths[b]), alone.out)) << b;
    EXPECT_TRUE(equal(slice_rows(ragged.out, 0, first_query, query_lengths[b]), alone.out)) << b;
    first_query += query_lengths[b];
  }
}

TEST_P(BucketAttentionBatch, PaddedRaggedAndAloneGiveTheSameBits) {
  for (Tokens tokens : {kIid, kClusters, kIdentical}) {
    expect_same_bits({4, 4, 2, 127, 130, 9, 5, 1, 33, kRowsFirst, kNone, tokens}, GetParam(),
                     {40, 3, 127, 0});
    expect_same_bits({4, 4, 2, 127, 1700, 9, 8, 1, 64, kRowsFirst, kNone, tokens}, GetParam(),
                     {1540, 3, 1536, 0});
  }
}

TEST_P(BucketAttentionBatch, AnyNumberOfThreadsGivesTheSameBits) {
  const int64_t threads = cpu::num_threads();
  // Few groups and many tokens, then many groups: the work is split in both ways.
  for (const Shape& shape : {Shape{1, 2, 2, 3000, 3001, 9, 6, 1, 33, kRowsFirst, kRandom},
                             Shape{1, 1, 1, 3000, 3001, 9, 6, 1, 33, kDense, kNone, kIdentical},
                             Shape{1, 1, 1, 300, 1500, 9, 6, 1, 33, kDense, kNone, kIdentical},
                             Shape{5, 4, 2, 127, 130, 9, 5, 1, 33, kGaps, kTail, kClusters}}) {
    cpu::set_num_threads(1);
    Case one(shape, GetParam(), Numbers::kNormal);
    backend::bucket_attention(one.args());
    for (int64_t count : {1, 2, 5}) {
      cpu::set_num_threads(count);
      Case again(shape, GetParam(), Numbers::kNormal);
      backend::bucket_attention(again.args());
      EXPECT_TRUE(equal(again.out, one.out)) << count << " threads, " << name_of(shape);
    }
  }
  cpu::set_num_threads(threads);
}

INSTANTIATE_TEST_SUITE_P(Types, BucketAttentionBatch, ::testing::ValuesIn(kFloatTypes),
                         [](const auto& info) { return name_of(info.param); });

// Both sides long, against sums by bucket in double.
TEST(BucketAttention, SumsManyTokens) {
  const int64_t n = 65537;
  for (Tokens tokens : {kIid, kClusters}) {
    Case c({1, 1, 1, n, n, 4, 9, 1, 3, kDense, kRandom, tokens}, DType::kFloat32);
    backend::bucket_attention(c.args());
    Buffer expected = c.out.widened(), magnitude = expected;
    expected.fill([](auto...) { return 0; });
    magnitude.fill([](auto...) { return 0; });
    for (int64_t m = 0; m < 4; ++m) {
      std::vector<double> sum(512 * 3), absolute(512 * 3);
      c.values.for_each([&](int64_t b, int64_t h, int64_t j, int64_t v) {
        if (!c.key_side.is_real(b, j)) return;
        const size_t at = static_cast<size_t>(c.key_codes.at(b, h, m, j)) * 3 + size_t(v);
        sum[at] += c.values.at(b, h, j, v) / 4;
        absolute[at] += std::abs(c.values.at(b, h, j, v)) / 4;
      });
      expected.fill([&](int64_t b, int64_t h, int64_t i, int64_t v) {
        if (!c.query_side.is_real(b, i)) return 0.0;
        const size_t at = static_cast<size_t>(c.query_codes.at(b, h, m, i)) * 3 + size_t(v);
        magnitude.set(b, h, i, v, magnitude.at(b, h, i, v) + absolute[at]);
        return expected.at(b, h, i, v) + sum[at];
      });
    }
    EXPECT_TRUE(close(c.out, expected, magnitude, 6 * 0x1p-24)) << name_of(tokens);
  }
}

// One bucket holds all. Sums of n terms in blocks of b are within (b + n / b) u of the sum of the
// absolute values: 529 u for b near the root of n, at most 1,157 u for b from 64 to 1,024. Adding
// 70,000 equal numbers one by one in float is off by more than that.
TEST(BucketAttention, StaysAccurateWhenAllTokensAreAlike) {
  const int64_t n = 70000;
  Case c({1, 1, 1, n, n, 2, 8, 1, 3, kDense, kNone, kIdentical}, DType::kFloat32);
  Random random(1, 1);
  c.values.fill([&](int64_t, int64_t, int64_t, int64_t v) {
    return v == 0 ? 0.1 : v == 1 ? random.uniform() : 1.1;
  });
  double sum[3] = {};
  float one_by_one = 0;
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t v = 0; v < 3; ++v) sum[v] += c.values.at(0, 0, j, v);
    one_by_one += static_cast<float>(c.values.at(0, 0, j, 0));
  }
  const double bound = 1157 * 0x1p-24;
  ASSERT_GT(std::abs(one_by_one - sum[0]), bound * sum[0]) << "the test would see nothing";
  backend::bucket_attention(c.args());
  Buffer expected = c.out.widened();
  expected.fill([&](int64_t, int64_t, int64_t, int64_t v) { return sum[v]; });
  EXPECT_TRUE(close(c.out, expected, expected, bound));
}

// The mean over codes of queries and keys at known angles is (1 - acos(x) / pi)^T times values, and
// four times the hashes halve the error.
TEST(BucketAttention, ApproachesTheExpectationAsHashesGrow) {
  const int64_t n = 64, width = 32, bits = 8;
  Buffer x(DType::kFloat32, 1, 1, 2 * n, width), values(DType::kFloat32, 1, 1, n, 1);
  // Query i and key i are at cosine 0.6, other pairs near 0.
  Buffer directions(DType::kFloat64, 1, 1, 2 * n, width);
  fill_unit(directions, 4);
  x.fill([&](int64_t, int64_t, int64_t i, int64_t c) {
    const double first = directions.at(0, 0, i % n, c);
    if (i < n) return first;
    double along = 0;
    for (int64_t k = 0; k < width; ++k)
      along += directions.at(0, 0, i, k) * directions.at(0, 0, i - n, k);
    const double across = directions.at(0, 0, i, c) - along * first;
    return 0.6 * first + 0.8 * across / std::sqrt(1 - along * along);
  });
  fill_normal(values, 5);

  std::vector<double> expected(static_cast<size_t>(n));
  double expected_square = 0;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double cosine = 0;
      for (int64_t c = 0; c < width; ++c) cosine += x.at(0, 0, i, c) * x.at(0, 0, n + j, c);
      expected[i] += std::pow(1 - std::acos(cosine) / M_PI, double(bits)) * values.at(0, 0, j, 0);
    }
    expected_square += expected[i] * expected[i];
  }

  const auto error_with = [&](int64_t hashes, uint64_t seed) {
    Buffer codes(DType::kUint8, 1, 1, hashes, 2 * n), out(DType::kFloat32, 1, 1, n, 1);
    Hash hash{std::as_const(x).array(), codes.array(), bits, Projection::kGaussian, nullptr, 1};
    const std::vector<float> projections = draw_projections(hash.shape(), 1, seed);
    hash.projections = projections.data();
    backend::hash(hash);
    const Buffer query_codes = slice_cols(codes, 0, 0, n), key_codes = slice_cols(codes, 0, n, n);
    backend::bucket_attention({query_codes.array(),
                               key_codes.array(),
                               std::as_const(values).array(),
                               out.array(),
                               bits,
                               {},
                               {}});
    double square = 0;
    for (int64_t i = 0; i < n; ++i) square += std::pow(out.at(0, 0, i, 0) - expected[i], 2);
    return std::sqrt(square / expected_square);
  };
  // The mean over eight draws: the errors are relative to a vector of 64 nearly independent
  // entries, so that a draw varies by 1/8 or so and the mean by 1/16 to 1/25.
  const auto mean_error = [&](int64_t hashes) {
    double sum = 0;
    for (uint64_t seed = 0; seed < 8; ++seed) sum += error_with(hashes, seed) / 8;
    return sum;
  };
  const double at_64 = mean_error(64), at_256 = mean_error(256), at_1024 = mean_error(1024);
  EXPECT_NEAR(at_64 / at_256, 2, 0.3);
  EXPECT_NEAR(at_256 / at_1024, 2, 0.3);
  EXPECT_LT(at_1024, 0.3);
}

TEST(BucketAttentionCheck, SaysWhatIsWrong) {
  const struct {
    std::string message;
    void (*spoil)(BucketAttention&);
  } kMistakes[] = {
      {"no error", [](BucketAttention&) {}},
      {"bucket_attention: code_bits is 0, expected 1 to 16",
       [](BucketAttention& a) { a.code_bits = 0; }},
      {"bucket_attention: code_bits is 17, expected 1 to 16",
       [](BucketAttention& a) { a.code_bits = 17; }},
      {"bucket_attention: query_codes is uint8, expected uint16",
       [](BucketAttention& a) { a.code_bits = 9; }},
      {"bucket_attention: query_codes is float32, expected uint8",
       [](BucketAttention& a) { a.query_codes.dtype = DType::kFloat32; }},
      {"bucket_attention: key_codes is uint16, expected uint8",
       [](BucketAttention& a) { a.key_codes.dtype = DType::kUint16; }},
      {"bucket_attention: query_codes.rows (hashes) is 0, expected at least 1",
       [](BucketAttention& a) { a.query_codes.rows = 0; }},
      {"bucket_attention: key_codes.batch is 3, expected query_codes.batch = 1",
       [](BucketAttention& a) { a.key_codes.batch = 3; }},
      {"bucket_attention: key_codes.rows is 2, expected query_codes.rows = 3",
       [](BucketAttention& a) { a.key_codes.rows = 2; }},
      {"bucket_attention: query_codes.heads is 4, expected a multiple or a divisor of "
       "key_codes.heads = 3",
       [](BucketAttention& a) { a.key_codes.heads = 3; }},
      {"bucket_attention: query_codes.heads is 4, expected a multiple or a divisor of "
       "key_codes.heads = 0",
       [](BucketAttention& a) { a.key_codes.heads = 0; }},
      {"bucket_attention: values.cols is 0, expected 1 to 256",
       [](BucketAttention& a) { a.values.cols = 0; }},
      {"bucket_attention: values.cols is 257, expected 1 to 256",
       [](BucketAttention& a) { a.values.cols = 257; }},
      {"bucket_attention: values is uint8, expected a floating type",
       [](BucketAttention& a) { a.values.dtype = DType::kUint8; }},
      {"bucket_attention: values.batch is 2, expected 1",
       [](BucketAttention& a) { a.values.batch = 2; }},
      {"bucket_attention: values.heads is 4, expected 2",
       [](BucketAttention& a) { a.values.heads = 4; }},
      {"bucket_attention: values.rows is 8, expected 7",
       [](BucketAttention& a) { a.values.rows = 8; }},
      {"bucket_attention: query_codes is null, expected an array",
       [](BucketAttention& a) { a.query_codes.data = nullptr; }},
      {"bucket_attention: key_codes is null, expected an array",
       [](BucketAttention& a) { a.key_codes.data = nullptr; }},
      {"bucket_attention: values is null, expected an array",
       [](BucketAttention& a) { a.values.data = nullptr; }},
      {"bucket_attention: out.heads is 2, expected 4", [](BucketAttention& a) { a.out.heads = 2; }},
      {"bucket_attention: out.rows is 4, expected 5", [](BucketAttention& a) { a.out.rows = 4; }},
      {"bucket_attention: out.cols is 5, expected 6", [](BucketAttention& a) { a.out.cols = 5; }},
      {"bucket_attention: out is float64, expected a type that goes with float32",
       [](BucketAttention& a) { a.out.dtype = DType::kFloat64; }},
      {"bucket_attention: out is null, expected an array",
       [](BucketAttention& a) { a.out.data = nullptr; }},
  };
  for (const auto& mistake : kMistakes) {
    for (auto* run : {reference::bucket_attention, backend::bucket_attention}) {
      Case c({1, 4, 2, 5, 7, 3, 2, 1, 6}, DType::kFloat32);
      BucketAttention a = c.args();
      mistake.spoil(a);
      EXPECT_EQ(error_of([&] { run(a); }), mistake.message);
      if (mistake.message != "no error") {
        EXPECT_TRUE(std::isnan(c.out.at(0, 0, 0, 0))) << "something was written";
      }
    }
  }
}

TEST(BucketAttentionCheck, SaysWhatIsWrongWithOffsets) {
  const struct {
    std::string message;
    void (*spoil)(BucketAttention&);
  } kMistakes[] = {
      {"no error", [](BucketAttention&) {}},
      {"bucket_attention: key_rows.offsets is absent, expected offsets for both sides or for none",
       [](BucketAttention& a) { a.key_rows.offsets = nullptr; }},
      {"bucket_attention: query_rows.offsets is absent, expected offsets for both sides or for "
       "none",
       [](BucketAttention& a) { a.query_rows.offsets = nullptr; }},
      {"bucket_attention: key_rows.sequences is 1, expected query_rows.sequences = 2",
       [](BucketAttention& a) {
         static const int64_t offsets[] = {0, 7};
         a.key_rows.offsets = offsets;
         a.key_rows.sequences = 1;
       }},
      {"bucket_attention: query_rows.sequences is -1, expected at least 0",
       [](BucketAttention& a) { a.query_rows.sequences = -1; }},
      {"bucket_attention: query_rows.offsets[0] is 1, expected 0",
       [](BucketAttention& a) {
         static const int64_t offsets[] = {1, 3, 5};
         a.query_rows.offsets = offsets;
       }},
      {"bucket_attention: key_rows.offsets[2] is 3, expected at least offsets[1] = 4",
       [](BucketAttention& a) {
         static const int64_t offsets[] = {0, 4, 3};
         a.key_rows.offsets = offsets;
       }},
      {"bucket_attention: key_rows.offsets[2] is 6, expected the number of rows = 7",
       [](BucketAttention& a) {
         static const int64_t offsets[] = {0, 4, 6};
         a.key_rows.offsets = offsets;
       }},
  };
  for (const auto& mistake : kMistakes) {
    Case c({1, 2, 2, 5, 7, 3, 2, 1, 6, kDense, kNone, kIid, {2, 3}, {4, 3}}, DType::kFloat32);
    BucketAttention a = c.args();
    mistake.spoil(a);
    EXPECT_EQ(error_of([&] { backend::bucket_attention(a); }), mistake.message);
  }
  // Where only a GPU could read them.
  Case on_gpu({1, 2, 2, 5, 7, 3, 2, 1, 6, kDense, kNone, kIid, {2, 3}, {4, 3}}, DType::kFloat32);
  BucketAttention a = on_gpu.args();
  a.query_rows.longest = 3;
  EXPECT_EQ(error_of([&] { reference::bucket_attention(a); }),
            "bucket_attention: query_rows.longest is 3, expected 0: offsets in host memory");
  EXPECT_EQ(
      error_of([&] { a.check(Offsets::kAnywhere); }),
      "bucket_attention: key_rows.longest is 0, expected offsets of both sides on the host or "
      "on the GPU, and query_rows.longest is 3");
  a.query_rows = a.key_rows = {.longest = 3};
  EXPECT_EQ(error_of([&] { a.check(Offsets::kAnywhere); }),
            "bucket_attention: query_rows.longest is 3, expected 0 without offsets");
  a.query_rows.longest = -1;
  EXPECT_EQ(error_of([&] { a.check(Offsets::kAnywhere); }),
            "bucket_attention: query_rows.longest is -1, expected at least 0");
  // Offsets of a batch.
  Case c({2, 2, 2, 5, 7, 3, 2, 1, 6, kDense, kNone, kIid, {2, 3}, {4, 3}}, DType::kFloat32);
  EXPECT_EQ(error_of([&] { backend::bucket_attention(c.args()); }),
            "bucket_attention: batch is 2, expected 1 with query_rows.offsets (ragged sequences)");
}

}  // namespace
}  // namespace yoso
