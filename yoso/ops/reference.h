// Element access for the references: slow, by index, in double.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/core/array.h"

namespace yoso::reference {

inline double value_at(const ConstArray& a, int64_t b, int64_t h, int64_t i, int64_t c) {
  return with_float_type(a.dtype,
                         [&]<class T>() { return double{to_float(a.row<T>(b, h, i)[c])}; });
}

inline void set_value(const Array& a, int64_t b, int64_t h, int64_t i, int64_t c, double value) {
  with_float_type(a.dtype, [&]<class T>() { a.row<T>(b, h, i)[c] = from_float<T>(value); });
}

// Code of row i under hash m; `codes` is [B, H, M, N].
inline uint32_t code_at(const ConstArray& codes, int64_t b, int64_t h, int64_t m, int64_t i) {
  return codes.dtype == DType::kUint8 ? codes.row<uint8_t>(b, h, m)[i]
                                      : codes.row<uint16_t>(b, h, m)[i];
}

// Entry c of the unit row i: scale times row, or the row itself where the scale is absent.
inline double unit_at(const ConstArray& x, const ConstArray& scale, int64_t b, int64_t h, int64_t i,
                      int64_t c) {
  const double value = value_at(x, b, h, i, c);
  return scale.data == nullptr ? value : value_at(scale, b, h, 0, i) * value;
}

}  // namespace yoso::reference
