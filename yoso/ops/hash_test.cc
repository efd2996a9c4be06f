// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/hash.h"

#include <gtest/gtest.h>

#include <bit>
#include <set>

#include "yoso/cpu/parallel.h"
#include "yoso/ops/backend_testing.h"
#include "yoso/ops/testing.h"

namespace yoso {
namespace {

using namespace yoso::testing;

constexpr Projection kHadamard = Projection::kHadamard, kGaussian = Projection::kGaussian;

const char* name_of(Projection projection) {
  return projection == kHadamard ? "hadamard" : "gaussian";
}

struct HashShape {
  Projection projection;
  int64_t batch, heads, projection_heads, rows, width, hashes, bits;
  Layout layout = Layout::kDense;
};

std::string name_of(const HashShape& s) {
  return join(name_of(s.projection), "_B", s.batch, "_H", s.heads, "_P", s.projection_heads, "_N",
              s.rows, "_D", s.width, "_M", s.hashes, "_T", s.bits, "_",
              yoso::testing::name_of(s.layout));
}
void PrintTo(const HashShape& s, std::ostream* out) { *out << name_of(s); }

struct Case {
  HashShape shape;
  Buffer x, codes;
  std::vector<float> projections;

  Case(const HashShape& s, DType dtype, uint64_t seed = 1)
      : shape(s),
        x(dtype, s.batch, s.heads, s.rows, s.width, s.layout),
        codes(code_dtype(s.bits), s.batch, s.heads, s.hashes, s.rows, s.layout) {
    projections = draw_projections(args().shape(), s.projection_heads, seed);
  }

  Hash args() {
    return {std::as_const(x).array(), codes.array(),      shape.bits,
            shape.projection,         projections.data(), shape.projection_heads};
  }

  Buffer reference_codes() {
    Buffer result = codes;
    result.poison();
    Hash a = args();
    a.codes = result.array();
    reference::hash(a);
    return result;
  }
};

class HashTest : public ::testing::TestWithParam<HashShape> {};

// Whole numbers leave no rounding: |x| <= 3 stays below 3 * 256^2.5 < 2^24 in a Hadamard rotation,
// and projections of whole numbers below 3 * 2 * 256. So every code must be right, those of
// projections that are exactly zero too, which whole numbers have many of.
TEST_P(HashTest, WholeNumbersGiveTheCodesOfTheReference) {
  for (DType dtype : kFloatTypes) {
    Case c(GetParam(), dtype);
    fill_whole(c.x, 2);
    if (c.shape.projection == kGaussian) {
      Random random(3, 3);
      for (float& number : c.projections) number = static_cast<float>(random.below(5)) - 2.0f;
    }
    backend::hash(c.args());
    EXPECT_TRUE(equal(c.codes, c.reference_codes())) << name_of(dtype);
    EXPECT_TRUE(c.codes.gaps_are_untouched()) << name_of(dtype);
  }
}

// Every number of rows around a few vectors, at every padded width; every T with M around them.
TEST(Hash, WholeNumbersGiveTheCodesOfTheReferenceAtEverySize) {
  for (DType dtype : {DType::kFloat32, kWidest}) {
    for (int64_t width : {1, 2, 3, 6, 13, 24, 40, 64, 72, 128, 200, 256}) {
      for (int64_t rows = 1; rows <= 35; ++rows) {
        Case c({kHadamard, 1, 1, 1, rows, width, 5, 3}, dtype);
        fill_whole(c.x, 2);
        backend::hash(c.args());
        ASSERT_TRUE(equal(c.codes, c.reference_codes())) << name_of(c.shape) << name_of(dtype);
      }
    }
    for (int64_t bits = 1; bits <= 16; ++bits) {
      for (int64_t hashes : {1, 2, 7, 8, 9, 31, 32, 33, 64}) {
        Case c({kHadamard, 1, 1, 1, 19, 24, hashes, bits}, dtype);
        fill_whole(c.x, 2);
        backend::hash(c.args());
        ASSERT_TRUE(equal(c.codes, c.reference_codes())) << name_of(c.shape) << name_of(dtype);
      }
    }
  }
}

// P x in double: by matrices, and not by any fast transform.
std::vector<double> project(const Case& c, int64_t b, int64_t h, int64_t i) {
  const HashShape& s = c.shape;
  const ProjectionShape shape{s.projection, s.width, s.hashes, s.bits};
  const float* numbers =
      c.projections.data() + h / (s.heads / s.projection_heads) * shape.numbers_per_head();
  const int64_t bits = s.hashes * s.bits;
  std::vector<double> result(static_cast<size_t>(bits));
  if (s.projection == kGaussian) {
    for (int64_t r = 0; r < bits; ++r)
      for (int64_t k = 0; k < s.width; ++k)
        result[r] += double{numbers[r * s.width + k]} * c.x.at(b, h, i, k);
    return result;
  }
  const int64_t d = shape.padded_width();
  for (int64_t part = 0; part < shape.parts(); ++part) {
    std::vector<double> y(static_cast<size_t>(d));
    for (int64_t k = 0; k < s.width; ++k) y[k] = c.x.at(b, h, i, k);
    for (int64_t round = 0; round < 3; ++round) {
      std::vector<double> sum(static_cast<size_t>(d));
      for (int64_t r = 0; r < d; ++r) {
        for (int64_t k = 0; k < d; ++k) {
          const double sign = std::popcount(static_cast<uint64_t>(r & k)) % 2 ? -1.0 : 1.0;
          sum[r] += sign * numbers[(part * 3 + round) * d + k] * y[k];
        }
      }
      y = sum;
    }
    for (int64_t m = 0; m < d / s.bits; ++m) {
      for (int64_t t = 0; t < s.bits; ++t) {
        const int64_t r = (part * (d / s.bits) + m) * s.bits + t;
        if (r < bits) result[r] = y[m * s.bits + t];
      }
    }
  }
  return result;
}

// Normal rows. A bit counts where its projection is clear of zero by what rounding can do:
//   Hadamard: 3 log2(d) additions in a row, each within u; the rotation has length d^1.5 |x|, which
//     bounds every entry of what is rounded: 3 log2(d) u d^1.5 |x|. Entries are about d |x|.
//   Gaussian: D terms: D u sum |P| |x| <= D u |P| |x|, |P| < 2 sqrt(D) + 5 for normals. Entries are
//     about |x|.
// So a bit is left out with a chance of at most 2 D (2 sqrt(D) + 5) u, 0.1 % for D = 256.
TEST_P(HashTest, BitsAreSignsOfProjections) {
  for (DType dtype : kFloatTypes) {
    Case c(GetParam(), dtype);
    fill_normal(c.x, 2);
    backend::hash(c.args());
    const double u = unit_roundoff(accumulator(dtype)), d = double(c.args().shape().padded_width());
    const double width = double(c.shape.width);
    const double margin = c.shape.projection == kHadamard ? 3 * std::log2(d) * u * std::pow(d, 1.5)
                                                          : width * u * (2 * std::sqrt(width) + 5);
    int64_t bits = 0, unclear = 0, wrong = 0;
    // The first and the last rows: the projection by matrices is slow.
    for (int64_t i = 0; i < c.shape.rows; ++i) {
      if (i >= 8 && i < c.shape.rows - 8) continue;
      for (int64_t b = 0; b < std::min<int64_t>(2, c.shape.batch); ++b) {
        for (int64_t h = 0; h < std::min<int64_t>(6, c.shape.heads); ++h) {
          double square = 0;
          for (int64_t k = 0; k < c.shape.width; ++k) square += std::pow(c.x.at(b, h, i, k), 2);
          const std::vector<double> y = project(c, b, h, i);
          for (int64_t r = 0; r < c.shape.hashes * c.shape.bits; ++r) {
            const auto code = static_cast<uint32_t>(c.codes.at(b, h, r / c.shape.bits, i));
            const bool bit = code >> (r % c.shape.bits) & 1;
            ++bits;
            if (std::abs(y[r]) <= margin * std::sqrt(square)) {
              ++unclear;
            } else {
              wrong += bit != (y[r] > 0);
            }
          }
        }
      }
    }
    EXPECT_EQ(wrong, 0) << "of " << bits << ", " << name_of(dtype);
    // Of a row padded to many times its width, projections can be zero by their signs alone.
    EXPECT_LE(unclear, d > 4 * width ? bits / 4 : 5 + bits / 200)
        << "of " << bits << ", " << name_of(dtype);
  }
}

constexpr Layout kRowsFirst = Layout::kRowsFirst, kGaps = Layout::kGaps;

const HashShape kShapes[] = {
    // {projection, B, H, projection heads, N, D, M, T, layout}
    {kHadamard, 1, 1, 1, 0, 8, 3, 2},
    {kHadamard, 0, 2, 1, 5, 8, 3, 2},
    {kHadamard, 1, 1, 1, 1, 1, 1, 1},
    {kHadamard, 1, 1, 1, 33, 1, 3, 1},
    {kHadamard, 2, 2, 2, 2, 3, 3, 2, kGaps},
    {kHadamard, 1, 2, 1, 7, 7, 8, 5, kRowsFirst},
    {kHadamard, 2, 4, 2, 8, 8, 31, 8, kRowsFirst},
    {kHadamard, 1, 2, 2, 9, 16, 32, 5, kGaps},
    {kHadamard, 1, 2, 2, 31, 31, 33, 9, kGaps},
    {kHadamard, 1, 2, 2, 33, 32, 32, 8, kRowsFirst},
    {kHadamard, 1, 2, 1, 127, 33, 8, 11, kGaps},
    {kHadamard, 2, 3, 3, 31, 64, 32, 8, kRowsFirst},
    {kHadamard, 1, 1, 1, 33, 65, 33, 16, kGaps},
    {kHadamard, 1, 2, 2, 17, 100, 31, 9, kRowsFirst},
    {kHadamard, 1, 1, 1, 15, 128, 32, 8, kGaps},
    {kHadamard, 1, 1, 1, 33, 256, 33, 11, kRowsFirst},
    {kHadamard, 1, 1, 1, 1025, 64, 8, 8},
    {kHadamard, 1, 1, 1, 65537, 2, 2, 2, kGaps},
    // T above D: the row is padded to T.
    {kHadamard, 1, 2, 2, 33, 3, 3, 16, kGaps},
    {kHadamard, 1, 1, 1, 9, 1, 8, 9, kRowsFirst},
    {kHadamard, 35000, 2, 2, 2, 4, 3, 2, kRowsFirst},
    {kHadamard, 2, 35000, 1, 1, 3, 1, 1},
    {kGaussian, 1, 1, 1, 0, 8, 3, 2},
    {kGaussian, 1, 1, 1, 1, 1, 1, 1},
    {kGaussian, 2, 2, 2, 2, 3, 3, 2, kGaps},
    {kGaussian, 1, 2, 1, 7, 7, 8, 5, kRowsFirst},
    {kGaussian, 2, 4, 2, 8, 8, 31, 8, kRowsFirst},
    {kGaussian, 1, 2, 2, 9, 16, 32, 9, kGaps},
    {kGaussian, 1, 2, 2, 31, 31, 33, 1, kGaps},
    {kGaussian, 1, 2, 1, 127, 33, 8, 11, kGaps},
    {kGaussian, 2, 3, 3, 31, 64, 32, 8, kRowsFirst},
    {kGaussian, 1, 1, 1, 33, 65, 33, 16, kGaps},
    {kGaussian, 1, 2, 2, 17, 100, 3, 9, kRowsFirst},
    {kGaussian, 1, 1, 1, 9, 256, 8, 5, kGaps},
    {kGaussian, 1, 1, 1, 1025, 3, 1, 8},
    {kGaussian, 35000, 2, 2, 2, 3, 1, 2, kRowsFirst},
};

INSTANTIATE_TEST_SUITE_P(Shapes, HashTest, ::testing::ValuesIn(kShapes),
                         [](const auto& info) { return name_of(info.param); });

// One rotation by known signs, from a throw-away implementation in Python.
TEST(Hash, RotatesByKnownSigns) {
  const float x[] = {1, 2, 3, 4, 5, 6, 7, 8};
  float signs[24];
  std::fill(signs, signs + 24, 1.0f);
  signs[0 * 8 + 1] = signs[1 * 8 + 2] = signs[2 * 8 + 5] = -1;
  // y = 112, 144, -48, 176, -16, -112, 112, -112.
  const struct {
    int64_t hashes, bits;
    uint8_t codes[8];
  } kCases[] = {{2, 3, {3, 1}}, {2, 4, {11, 4}}, {8, 1, {1, 1, 0, 1, 0, 0, 1, 0}}};
  for (auto* run : {reference::hash, backend::hash}) {
    for (const auto& c : kCases) {
      uint8_t codes[8] = {};
      run({dense(x, 1, 1, 1, 8), dense(codes, 1, 1, c.hashes, 1), c.bits, kHadamard, signs, 1});
      for (int64_t m = 0; m < c.hashes; ++m) EXPECT_EQ(codes[m], c.codes[m]) << c.bits << " " << m;
    }
  }
}

// With all signs +1 the three transforms are one, times d: H [1..8] = [36, -4, -8, 0, -16, 0, 0,
// 0]. Zero is not greater than zero.
TEST(Hash, ZeroGivesZero) {
  const float x[] = {1, 2, 3, 4, 5, 6, 7, 8}, negative[] = {-1, -2, -3, -4, -5, -6, -7, -8};
  const std::vector<float> signs(24, 1.0f);
  for (auto* run : {reference::hash, backend::hash}) {
    uint8_t code = 0xff;
    run({dense(x, 1, 1, 1, 8), dense(&code, 1, 1, 1, 1), 8, kHadamard, signs.data(), 1});
    EXPECT_EQ(code, 0b00000001);
    run({dense(negative, 1, 1, 1, 8), dense(&code, 1, 1, 1, 1), 8, kHadamard, signs.data(), 1});
    EXPECT_EQ(code, 0b00010110);
  }
}

TEST(Hash, RowsOfZerosGiveZero) {
  for (Projection projection : {kHadamard, kGaussian}) {
    for (double zero : {0.0, -0.0}) {
      for (DType dtype : kFloatTypes) {
        for (int64_t width : {20, 32, 64}) {
          Case c({projection, 1, 2, 2, 33, width, 9, 11}, dtype);
          c.x.fill([&](auto...) { return zero; });
          backend::hash(c.args());
          c.codes.for_each([&](auto... at) { ASSERT_EQ(c.codes.at(at...), 0); });
        }
      }
    }
  }
}

// T = 5 leaves three bits of a byte without a projection, whatever the sign of the products there.
TEST(Hash, CodesStayBelowTwoToTheBits) {
  for (DType dtype : kFloatTypes) {
    for (int64_t width : {20, 32, 64}) {
      Case c({kHadamard, 1, 2, 2, 33, width, 9, 5}, dtype);
      c.x.fill([](auto...) { return -1; });
      backend::hash(c.args());
      c.codes.for_each([&](auto... at) { ASSERT_LT(c.codes.at(at...), 32) << name_of(dtype); });
    }
  }
}

TEST(Hash, ScalingByPowersOfTwoChangesNothing) {
  for (Projection projection : {kHadamard, kGaussian}) {
    for (DType dtype : kFloatTypes) {
      Case c({projection, 1, 2, 2, 33, 64, 32, 8}, dtype);
      fill_normal(c.x, 2);
      backend::hash(c.args());
      // Half has five bits of exponent; 2^-6 of its smallest numbers would round.
      const int power = dtype == DType::kFloat16 ? 6 : 60;
      for (int sign : {1, -1}) {
        Case scaled = c;
        scaled.x.fill([&](auto... at) {
          const double exact = c.x.at(at...);
          return std::ldexp(dtype == DType::kFloat16 ? std::round(exact * 64) / 64 : exact,
                            sign * power);
        });
        Case plain = scaled;
        plain.x.fill([&](auto... at) { return std::ldexp(scaled.x.at(at...), -sign * power); });
        backend::hash(scaled.args());
        backend::hash(plain.args());
        EXPECT_TRUE(equal(scaled.codes, plain.codes)) << name_of(projection) << name_of(dtype);
      }
    }
  }
}

// The same rows, at other places, in another batch, beside other rows, on other threads.
TEST(Hash, CodesBelongToTheRowAndTheHead) {
  const int64_t threads = cpu::num_threads();
  for (Projection projection : {kHadamard, kGaussian}) {
    for (DType dtype : kFloatTypes) {
      Case batch({projection, 4, 6, 3, 70, 33, 9, 5, kRowsFirst}, dtype);
      fill_normal(batch.x, 2);
      for (int64_t count : {1, 2, 5}) {
        cpu::set_num_threads(count);
        batch.codes.poison();
        backend::hash(batch.args());
        for (int64_t b = 0; b < 4; ++b) {
          for (int64_t first : {0, 1, 37}) {
            for (int64_t rows : {1, 7, 33}) {
              Case alone({projection, 1, 6, 3, rows, 33, 9, 5}, dtype);
              alone.x = slice_rows(batch.x, b, first, rows);
              backend::hash(alone.args());
              EXPECT_TRUE(equal(slice_cols(batch.codes, b, first, rows), alone.codes))
                  << name_of(projection) << " " << name_of(dtype) << " " << first << " " << rows;
            }
          }
        }
      }
    }
  }
  cpu::set_num_threads(threads);
}

TEST(Hash, RowsThatAreNotFiniteChangeNoOtherRow) {
  for (Projection projection : {kHadamard, kGaussian}) {
    for (DType dtype : kFloatTypes) {
      for (int64_t width : {20, 32, 64}) {
        Case clean({projection, 1, 2, 2, 70, width, 9, 5}, dtype);
        fill_normal(clean.x, 2);
        backend::hash(clean.args());
        Case spoilt = clean;
        const Side side(1, 70, {}, Mask::kRandom, 4);
        spoil_masked_rows(spoilt.x, side);
        backend::hash(spoilt.args());
        spoilt.codes.for_each([&](int64_t b, int64_t h, int64_t m, int64_t i) {
          if (!side.is_real(b, i)) return;
          ASSERT_EQ(spoilt.codes.at(b, h, m, i), clean.codes.at(b, h, m, i)) << i;
        });
      }
    }
  }
}

TEST(DrawProjections, HeadDependsOnSeedAndHeadAlone) {
  for (Projection projection : {kHadamard, kGaussian}) {
    const ProjectionShape shape{projection, 33, 9, 5};
    const auto two = draw_projections(shape, 2, 1), three = draw_projections(shape, 3, 1);
    const auto other = draw_projections(shape, 2, 2);
    const size_t head = static_cast<size_t>(shape.numbers_per_head());
    ASSERT_EQ(two.size(), 2 * head);
    ASSERT_EQ(three.size(), 3 * head);
    EXPECT_TRUE(std::equal(two.begin(), two.end(), three.begin()));
    const std::vector<float> heads[] = {
        {three.begin(), three.begin() + static_cast<int64_t>(head)},
        {three.begin() + static_cast<int64_t>(head),
         three.begin() + 2 * static_cast<int64_t>(head)},
        {three.begin() + 2 * static_cast<int64_t>(head), three.end()},
        {other.begin(), other.begin() + static_cast<int64_t>(head)},
        {other.begin() + static_cast<int64_t>(head), other.end()}};
    EXPECT_EQ(std::set<std::vector<float>>(std::begin(heads), std::end(heads)).size(), 5u);
  }
}

TEST(DrawProjections, HasTheSizesOfTheHeader) {
  const struct {
    ProjectionShape shape;
    int64_t padded_width, codes_per_part, parts, numbers;
  } kCases[] = {
      {{kHadamard, 64, 32, 8}, 64, 8, 4, 4 * 3 * 64},
      {{kHadamard, 33, 9, 5}, 64, 12, 1, 3 * 64},
      {{kHadamard, 32, 9, 12}, 32, 2, 5, 5 * 3 * 32},
      {{kHadamard, 3, 5, 16}, 16, 1, 5, 5 * 3 * 16},
      {{kHadamard, 1, 3, 1}, 1, 1, 3, 3 * 3},
      {{kHadamard, 256, 33, 16}, 256, 16, 3, 3 * 3 * 256},
  };
  for (const auto& c : kCases) {
    EXPECT_EQ(c.shape.padded_width(), c.padded_width);
    EXPECT_EQ(c.shape.codes_per_part(), c.codes_per_part);
    EXPECT_EQ(c.shape.parts(), c.parts);
    EXPECT_EQ(c.shape.numbers_per_head(), c.numbers);
  }
  EXPECT_EQ((ProjectionShape{kGaussian, 33, 9, 5}.numbers_per_head()), 9 * 5 * 33);
}

// Means of n numbers of variance v lie within 4 sqrt(v / n) of their expectation.
TEST(DrawProjections, SignsAreBalancedAndIndependent) {
  const ProjectionShape shape{kHadamard, 64, 80, 8};
  const auto signs = draw_projections(shape, 100, 7);
  const double n = double(signs.size());
  double sum = 0, next = 0, block = 0;
  for (size_t i = 0; i < signs.size(); ++i) {
    ASSERT_EQ(std::abs(signs[i]), 1.0f);
    sum += signs[i];
    next += signs[i] * signs[(i + 1) % signs.size()];
    block += signs[i] * signs[(i + 128) % signs.size()];
  }
  EXPECT_NEAR(sum / n, 0, 4 / std::sqrt(n));
  EXPECT_NEAR(next / n, 0, 4 / std::sqrt(n));
  EXPECT_NEAR(block / n, 0, 4 / std::sqrt(n));
}

TEST(DrawProjections, NormalsHaveTheMomentsOfNormals) {
  const ProjectionShape shape{kGaussian, 64, 32, 8};
  const auto numbers = draw_projections(shape, 20, 7);
  const double n = double(numbers.size());
  double mean = 0, square = 0, cube = 0, fourth = 0, next = 0;
  for (size_t i = 0; i < numbers.size(); ++i) {
    const double x = numbers[i];
    ASSERT_TRUE(std::isfinite(x));
    mean += x / n;
    square += x * x / n;
    cube += x * x * x / n;
    fourth += x * x * x * x / n;
    next += x * numbers[(i + 1) % numbers.size()] / n;
  }
  // Moments 0, 1, 0, 3 with variances 1, 2, 15, 96 for one number.
  EXPECT_NEAR(mean, 0, 4 * std::sqrt(1 / n));
  EXPECT_NEAR(square, 1, 4 * std::sqrt(2 / n));
  EXPECT_NEAR(cube, 0, 4 * std::sqrt(15 / n));
  EXPECT_NEAR(fourth, 3, 4 * std::sqrt(96 / n));
  EXPECT_NEAR(next, 0, 4 * std::sqrt(1 / n));
}

// Writes unit rows a, b at cosine `cosine` into rows i and j of head h.
void set_pair(Buffer& x, int64_t h, int64_t i, int64_t j, double cosine, Random& random) {
  const size_t width = static_cast<size_t>(x.cols());
  std::vector<double> a(width), b(width);
  for (double& value : a) value = random.normal();
  for (double& value : b) value = random.normal();
  const double a_length = std::sqrt(std::inner_product(a.begin(), a.end(), a.begin(), 0.0));
  for (double& value : a) value /= a_length;
  const double along = std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  for (size_t c = 0; c < width; ++c) b[c] -= along * a[c];
  const double b_length = std::sqrt(std::inner_product(b.begin(), b.end(), b.begin(), 0.0));
  for (size_t c = 0; c < width; ++c) {
    x.set(0, h, i, static_cast<int64_t>(c), a[c]);
    x.set(0, h, j, static_cast<int64_t>(c),
          cosine * a[c] + std::sqrt(1 - cosine * cosine) * b[c] / b_length);
  }
}

double collision_probability(double cosine, int64_t bits) {
  return std::pow(1 - std::acos(std::clamp(cosine, -1.0, 1.0)) / M_PI, double(bits));
}

// Entries of the collision matrix of 64 queries and 64 keys are means of M draws: z-scores.
TEST(Hash, GaussianCodesCollideWithTheFormulasProbability) {
  const int64_t n = 64, hashes = 4096, bits = 5;
  Case c({kGaussian, 1, 1, 1, 2 * n, 32, hashes, bits}, DType::kFloat32, 11);
  Random random(1, 2);
  for (int64_t i = 0; i < n; ++i) set_pair(c.x, 0, i, n + i, 0.6, random);
  backend::hash(c.args());
  double sum = 0, square = 0;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = n; j < 2 * n; ++j) {
      double cosine = 0;
      for (int64_t k = 0; k < 32; ++k) cosine += c.x.at(0, 0, i, k) * c.x.at(0, 0, j, k);
      const double p = collision_probability(cosine, bits);
      double equal_codes = 0;
      for (int64_t m = 0; m < hashes; ++m) {
        const uint8_t* codes = c.codes.array().row<uint8_t>(0, 0, m);
        equal_codes += codes[i] == codes[j];
      }
      const double z = (equal_codes / hashes - p) / std::sqrt(p * (1 - p) / hashes);
      sum += z;
      square += z * z;
      EXPECT_LT(std::abs(z), 5) << i << " " << j;
    }
  }
  // Entries share their projections: the mean of 4096 z varies more than 1/64.
  const double mean = sum / (n * n);
  EXPECT_LT(std::abs(mean), 0.06);
  EXPECT_NEAR(std::sqrt(square / (n * n) - mean * mean), 1, 0.05);
}

// Hadamard rotations are nearly, not exactly, random: these rates were measured over 400,000 pairs
// with signs of their own (docs/math.md), here are 2,000. A rotation's codes depend on each other,
// so that a pair counts as one draw at worst: 4 sqrt(p (1 - p) / 2000), and half of that is seen.
TEST(Hash, HadamardCodesCollideAtTheMeasuredRates) {
  const struct {
    double cosine, rates[3];  // D = 32, 64, 128
  } kMeasured[] = {{0.6, {0.0362, 0.0395, 0.0413}},
                   {0.8, {0.1183, 0.1228, 0.1251}},
                   {0.9, {0.2404, 0.2440, 0.2462}},
                   {0.99, {0.6586, 0.6594, 0.6602}}};
  const int64_t pairs = 2000, bits = 9;
  for (int w = 0; w < 3; ++w) {
    const int64_t width = 32 << w, hashes = width / bits;
    Case c({kHadamard, 1, pairs, pairs, 8, width, hashes, bits}, DType::kFloat32, 5);
    Random random(1, 2);
    for (int64_t h = 0; h < pairs; ++h)
      for (int64_t k = 0; k < 4; ++k)
        set_pair(c.x, h, 2 * k, 2 * k + 1, kMeasured[k].cosine, random);
    backend::hash(c.args());
    for (int64_t k = 0; k < 4; ++k) {
      double equal_codes = 0;
      for (int64_t h = 0; h < pairs; ++h)
        for (int64_t m = 0; m < hashes; ++m)
          equal_codes += c.codes.at(0, h, m, 2 * k) == c.codes.at(0, h, m, 2 * k + 1);
      const double p = kMeasured[k].rates[w];
      EXPECT_NEAR(equal_codes / double(pairs * hashes), p, 2 * std::sqrt(p * (1 - p) / pairs))
          << "D " << width << ", cosine " << kMeasured[k].cosine;
    }
  }
}

TEST(Hash, SpreadsManyTokensOverTheBuckets) {
  const int64_t n = 70000;
  Case c({kHadamard, 1, 1, 1, n, 8, 1, 6}, DType::kFloat32);
  fill_normal(c.x, 3);
  backend::hash(c.args());
  std::vector<int64_t> count(64);
  c.codes.for_each([&](auto... at) { ++count[static_cast<size_t>(c.codes.at(at...))]; });
  // 1,094 a bucket if even. Six of eight outputs of a rotation are orthogonal projections of a
  // normal row, so they are independent: within 5 sqrt(1094).
  for (int64_t bucket : count) EXPECT_NEAR(double(bucket), n / 64.0, 5 * std::sqrt(n / 64.0));
}

TEST(HashCheck, SaysWhatIsWrong) {
  const struct {
    std::string message;
    void (*spoil)(Hash&);
  } kMistakes[] = {
      {"no error", [](Hash&) {}},
      {"hash: code_bits is 0, expected 1 to 16", [](Hash& a) { a.code_bits = 0; }},
      {"hash: code_bits is 17, expected 1 to 16", [](Hash& a) { a.code_bits = 17; }},
      {"hash: x.cols is 0, expected 1 to 256", [](Hash& a) { a.x.cols = 0; }},
      {"hash: x.cols is 257, expected 1 to 256", [](Hash& a) { a.x.cols = 257; }},
      {"hash: x is uint8, expected a floating type", [](Hash& a) { a.x.dtype = DType::kUint8; }},
      {"hash: x is null, expected an array", [](Hash& a) { a.x.data = nullptr; }},
      {"hash: codes is null, expected an array", [](Hash& a) { a.codes.data = nullptr; }},
      {"hash: codes is uint8, expected uint16", [](Hash& a) { a.code_bits = 9; }},
      {"hash: codes is float32, expected uint8", [](Hash& a) { a.codes.dtype = DType::kFloat32; }},
      {"hash: codes.batch is 3, expected x.batch = 2", [](Hash& a) { a.codes.batch = 3; }},
      {"hash: codes.heads is 2, expected x.heads = 4", [](Hash& a) { a.codes.heads = 2; }},
      {"hash: codes.cols is 6, expected x.rows = 5", [](Hash& a) { a.codes.cols = 6; }},
      {"hash: codes.rows (hashes) is 0, expected at least 1", [](Hash& a) { a.codes.rows = 0; }},
      {"hash: projection_heads is 0, expected a divisor of x.heads = 4",
       [](Hash& a) { a.projection_heads = 0; }},
      {"hash: projection_heads is 3, expected a divisor of x.heads = 4",
       [](Hash& a) { a.projection_heads = 3; }},
      {"hash: projections is null, expected draw_projections() of this shape",
       [](Hash& a) { a.projections = nullptr; }},
  };
  for (const auto& mistake : kMistakes) {
    for (auto* run : {reference::hash, backend::hash}) {
      Case c({kHadamard, 2, 4, 2, 5, 6, 3, 2}, DType::kFloat32);
      fill_normal(c.x, 1);
      Hash a = c.args();
      mistake.spoil(a);
      EXPECT_EQ(error_of([&] { run(a); }), mistake.message);
      if (mistake.message != "no error") {
        EXPECT_EQ(c.codes.at(0, 0, 0, 0), 0xff) << "something was written";
      }
    }
  }
}

}  // namespace
}  // namespace yoso
