// How exact the weight of a pair and its slope are that a kernel computes from q.k, for tests.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "yoso/ops/backend_testing.h"
#include "yoso/ops/testing.h"

namespace yoso::testing {

// How exact a kernel is.
struct Precision {
  double u;             // unit roundoff of its sums
  double factor = 0;    // unit roundoff of weights as they are multiplied
  double smallest = 0;  // half the smallest step of such a weight
  double bit = 0;       // relative error of the chance of one equal bit, 1 - acos(x)/pi
  bool on_tensor_cores = false;

  // How many roundings a term of a sum of n passes through.
  double roundings(int64_t n) const {
    if (on_tensor_cores) return double(n) + 18;
    constexpr int64_t kBlock = kOnGpu ? 64 : 96;  // a block's, then the blocks'
    return double(std::min(n, kBlock) + n / kBlock + 2);
  }
  // x, where the chance of one equal bit is off as far as squared_chance (pair_weights.h) says that
  // it may be in the direction of `sign`.
  double moved(double x, double sign) const {
    if (!on_tensor_cores) return x;
    const double cosine = std::clamp(x + sign * 6 * u, -1.0, 1.0);
    const double chance = std::acos(-cosine) / std::numbers::pi * (1 + sign * bit);
    return -std::cos(std::numbers::pi * std::min(chance, 1.0));
  }
};

// The GPU's kernels for 16 bits: tensor cores add 16 exact products and the sum so far after
// cutting each to the 24 bits of the largest, so that each of n (1 + 1/16) addends costs 2
// roundings of a float: below n of 2^-22. Weights are rounded to the type before they are
// multiplied, and are powers of squared_chance, whose relative error is 1.6e-5.
inline Precision precision(const Shape& shape, DType dtype) {
  const bool fits = shape.width <= 128 && shape.value_width <= 128;
  if (!kOnGpu || size_of(dtype) != 2 || !fits) return {.u = unit_roundoff(accumulator(dtype))};
  return {.u = 0x1p-22,
          .factor = unit_roundoff(dtype),
          .smallest = dtype == DType::kFloat16 ? 0x1p-25 : 0x1p-134,
          .bit = 8e-6,
          .on_tensor_cores = true};
}

// What a kernel may make of q.k, of the weight, and of the slope. The product of D terms, each of
// two rounded factors, is wrong by at most (D + 3) u sum |q k|; a weight or slope is the exact one
// somewhere in that range, and then wrong by some u for every squaring and for the scaled logarithm
// of a power that is no whole number.
struct PairError {
  double cosine;  // of x = q.k
  Precision precision;

  template <class F>
  double of(double x, double code_bits, F&& f) const {
    const double value = f(x, code_bits), u = precision.u;
    const double low = f(precision.moved(x - cosine, -1), code_bits);
    const double high = f(precision.moved(x + cosine, 1), code_bits);
    const double change = std::max(std::abs(low - value), std::abs(high - value));
    const double steps = code_bits + 6 + std::abs(std::log(std::max(value, 1e-300)));
    return change + (4 * u * steps + precision.factor) * (value + change) + precision.smallest +
           (u > 1e-10 ? 1e-37 : 1e-300);
  }
};

}  // namespace yoso::testing
