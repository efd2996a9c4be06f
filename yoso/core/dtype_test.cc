// SPDX-License-Identifier: Apache-2.0
#include "yoso/core/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace yoso {
namespace {

template <class T>
uint16_t narrow(double x) {
  return from_float<T>(static_cast<float>(x)).bits;
}

// Calls f(bits) for every 16-bit pattern.
template <class F>
void for_each_pattern(F f) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) f(static_cast<uint16_t>(bits));
}

// The value of a half by the definition of IEEE 754.
double half_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == 31) return fraction ? std::nan("") : sign * HUGE_VAL;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

TEST(BFloat16, WideningKeepsTheUpperHalf) {
  for_each_pattern([](uint16_t bits) {
    ASSERT_EQ(std::bit_cast<uint32_t>(to_float(BFloat16{bits})), uint32_t{bits} << 16);
  });
}

TEST(Float16, WideningIsExact) {
  for_each_pattern([](uint16_t bits) {
    const double expected = half_value(bits), got = to_float(Float16{bits});
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(got)) << bits;
    } else {
      ASSERT_EQ(got, expected) << bits;
      ASSERT_EQ(std::signbit(got), std::signbit(expected)) << bits;
    }
  });
}

template <class T>
class SixteenBits : public ::testing::Test {};
using Types = ::testing::Types<BFloat16, Float16>;
TYPED_TEST_SUITE(SixteenBits, Types);

TYPED_TEST(SixteenBits, EveryPatternComesBack) {
  for_each_pattern([](uint16_t bits) {
    const float wide = to_float(TypeParam{bits});
    const uint16_t back = from_float<TypeParam>(wide).bits;
    if (std::isnan(wide)) {
      ASSERT_TRUE(std::isnan(to_float(TypeParam{back}))) << bits;
      ASSERT_EQ(back >> 15, bits >> 15) << "sign of " << bits;
    } else {
      ASSERT_EQ(back, bits);
    }
  });
}

// Between each two neighbours: a quarter goes down, three quarters up, the middle to the even one,
// and so do the floats next to the middle to their sides. Also from double.
TYPED_TEST(SixteenBits, RoundsToNearestTiesToEven) {
  const uint16_t infinity = narrow<TypeParam>(HUGE_VAL);
  for (uint32_t sign : {0u, 0x8000u}) {
    for (uint32_t i = 0; i + 1 < infinity; ++i) {
      const auto low = static_cast<uint16_t>(sign | i), high = static_cast<uint16_t>(low + 1);
      const float a = to_float(TypeParam{low}), b = to_float(TypeParam{high});
      const float middle = a + (b - a) / 2;
      ASSERT_EQ(narrow<TypeParam>(a + (b - a) / 4), low);
      ASSERT_EQ(narrow<TypeParam>(a + (b - a) / 4 * 3), high);
      ASSERT_EQ(narrow<TypeParam>(middle), i % 2 ? high : low) << low;
      ASSERT_EQ(narrow<TypeParam>(std::nextafter(middle, a)), low) << low;
      ASSERT_EQ(narrow<TypeParam>(std::nextafter(middle, b)), high) << low;
      ASSERT_EQ(from_float<TypeParam>(double{middle}).bits, i % 2 ? high : low) << low;
    }
  }
}

TYPED_TEST(SixteenBits, KeepsNaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(to_float(from_float<TypeParam>(nan))));
  EXPECT_TRUE(std::isnan(to_float(from_float<TypeParam>(-nan))));
  // Its payload lies in the bits that are cut off.
  const float low_payload = std::bit_cast<float>(0x7f800001u);
  EXPECT_TRUE(std::isnan(to_float(from_float<TypeParam>(low_payload))));
  const float full_payload = std::bit_cast<float>(0x7fffffffu);
  EXPECT_TRUE(std::isnan(to_float(from_float<TypeParam>(full_payload))));
}

TEST(Float16, OverflowsAtTheMiddleBeyondTheLargest) {
  EXPECT_EQ(narrow<Float16>(65504), 0x7bff);
  EXPECT_EQ(narrow<Float16>(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(narrow<Float16>(65520), 0x7c00);
  EXPECT_EQ(narrow<Float16>(-65520), 0xfc00);
  EXPECT_EQ(narrow<Float16>(1e30), 0x7c00);
  EXPECT_EQ(narrow<Float16>(std::ldexp(1, -25)), 0);
  EXPECT_EQ(narrow<Float16>(std::ldexp(1.0001, -25)), 1);
  EXPECT_EQ(narrow<Float16>(-1e-30), 0x8000);
}

TEST(BFloat16, OverflowsAtTheMiddleBeyondTheLargest) {
  EXPECT_EQ(narrow<BFloat16>(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(narrow<BFloat16>(-HUGE_VAL), 0xff80);
  EXPECT_EQ(narrow<BFloat16>(-0.0), 0x8000);
}

TEST(DType, HasSizesNamesAndKinds) {
  const struct {
    DType dtype;
    int64_t size;
    const char* name;
    bool floating;
  } kTypes[] = {{DType::kFloat32, 4, "float32", true},   {DType::kFloat64, 8, "float64", true},
                {DType::kBFloat16, 2, "bfloat16", true}, {DType::kFloat16, 2, "float16", true},
                {DType::kUint8, 1, "uint8", false},      {DType::kUint16, 2, "uint16", false}};
  for (const auto& type : kTypes) {
    EXPECT_EQ(size_of(type.dtype), type.size);
    EXPECT_STREQ(name_of(type.dtype), type.name);
    EXPECT_EQ(is_floating(type.dtype), type.floating);
  }
}

TEST(DType, WithFloatTypeNamesTheType) {
  for (DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kFloat16}) {
    EXPECT_EQ(with_float_type(dtype, []<class T>() { return DTypeOf<T>::value; }), dtype);
  }
}

}  // namespace
}  // namespace yoso
