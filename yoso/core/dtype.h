// Element types of the arrays that operators read and write, and the 16-bit conversions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

namespace yoso {

enum class DType : uint8_t { kFloat32, kFloat64, kBFloat16, kFloat16, kUint8, kUint16 };

// The upper half of a float: 8 exponent bits, 7 fraction bits.
struct BFloat16 {
  uint16_t bits;
};

// IEEE 754 binary16: 5 exponent bits, 10 fraction bits.
struct Float16 {
  uint16_t bits;
};

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 8;
    case DType::kFloat32:
      return 4;
    case DType::kUint8:
      return 1;
    default:
      return 2;
  }
}

constexpr const char* name_of(DType dtype) {
  constexpr const char* kNames[] = {"float32", "float64", "bfloat16", "float16", "uint8", "uint16"};
  return kNames[static_cast<int>(dtype)];
}

constexpr bool is_floating(DType dtype) {
  return dtype != DType::kUint8 && dtype != DType::kUint16;
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kFloat32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kFloat64;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::kBFloat16;
};
template <>
struct DTypeOf<Float16> {
  static constexpr DType value = DType::kFloat16;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kUint8;
};
template <>
struct DTypeOf<uint16_t> {
  static constexpr DType value = DType::kUint16;
};

// What sums over elements of type T are kept in.
template <class T>
using Accumulator = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Widening to float is exact; narrowing rounds to nearest, ties to even, and keeps NaN a NaN.
constexpr float to_float(float x) { return x; }
constexpr double to_float(double x) { return x; }
constexpr float to_float(BFloat16 x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }

constexpr float to_float(Float16 x) {
  // Scaling by 2^112 moves the exponent bias from 15 to 127 and makes subnormals normal.
  const uint32_t magnitude = uint32_t{x.bits} & 0x7fffu;
  const uint32_t sign = (uint32_t{x.bits} & 0x8000u) << 16;
  uint32_t bits;
  if (magnitude >= 0x7c00u) {
    bits = 0x7f800000u | ((magnitude & 0x3ffu) << 13);  // infinity or NaN
  } else {
    bits = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude << 13) * 0x1p112f);
  }
  return std::bit_cast<float>(bits | sign);
}

template <class T, class From>
constexpr T from_float(From x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(x));
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
    return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
  } else if constexpr (std::is_same_v<T, Float16>) {
    const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(x));
    const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u)};
    if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // >= 65520
    if (magnitude < 0x38800000u) {
      // Below 2^-14 a half counts in steps of 2^-24; adding 0.5 aligns the fraction and rounds.
      const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
      return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(aligned) - 0x3f000000u))};
    }
    const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u) - (112u << 23);
    return {static_cast<uint16_t>(sign | (rounded >> 13))};
  } else {
    return static_cast<T>(x);
  }
}

// Calls f.template operator()<T>() with the element type that `dtype` names.
template <class F>
decltype(auto) with_float_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat64:
      return f.template operator()<double>();
    case DType::kBFloat16:
      return f.template operator()<BFloat16>();
    case DType::kFloat16:
      return f.template operator()<Float16>();
    default:
      return f.template operator()<float>();
  }
}

}  // namespace yoso
