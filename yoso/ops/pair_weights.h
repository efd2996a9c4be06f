// The weight p(x) = (1 - acos(x)/pi)^T of a pair and its slopes, in float, on the GPU.
//
// 1 - acos(x)/pi, the chance that one bit is equal, is 1 - a for x >= 0 and a for x < 0, where
// a = acos(|x|)/pi = sqrt(t) f(t), t = 1 - |x|, and f is a minimax polynomial on [0, 1] (Remez). A
// NaN stays one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <numbers>

#include "yoso/ops/bucket_attention_grad.h"  // Gradient, kSlopeFloor

namespace yoso::cuda {

// Of degree 7, relative error 1.5e-8.
__device__ inline float one_bit(float x) {
  const float t = 1 - (fabsf(x) > 1 ? 1.0f : fabsf(x));
  float f = 0.00039898773f;
  f = fmaf(f, t, -0.000679776422f);
  f = fmaf(f, t, 0.00112554047f);
  f = fmaf(f, t, 0.000428292318f);
  f = fmaf(f, t, 0.00263014133f);
  f = fmaf(f, t, 0.00842467975f);
  f = fmaf(f, t, 0.0375139751f);
  f = fmaf(f, t, 0.450158149f);
  const float a = sqrtf(t) * f;
  return x < 0 ? a : 1 - a;
}

// base^exponent for base in [0, 1]: by squarings where the exponent is a whole number up to 64.
class Power {
 public:
  explicit Power(double exponent)
      : whole_(exponent >= 0 && exponent <= 64 && exponent == std::floor(exponent)
                   ? static_cast<int>(exponent)
                   : -1),
        exponent_(static_cast<float>(exponent)) {}

  __device__ float operator()(float base) const {
    if (whole_ < 0) return exp2f(exponent_ * log2f(base));
    float power = 1;
    for (int rest = whole_;;) {
      if (rest & 1) power *= base;
      if ((rest >>= 1) == 0) return power;
      base *= base;
    }
  }

 private:
  int whole_;
  float exponent_;
};

// p(x), and what G.v is multiplied by for the gradients of queries and keys.
class PairWeight {
 public:
  PairWeight(double code_bits, Gradient gradient)
      : gradient_(gradient),
        power_(code_bits),
        slope_power_(code_bits - 1),
        half_bits_(static_cast<float>(code_bits / 2)),
        bits_over_pi_(static_cast<float>(code_bits / std::numbers::pi)) {}

  __device__ float probability(float x) const { return power_(one_bit(x)); }

  __device__ float slope(float x) const {
    if (gradient_ == Gradient::kSurrogate) return half_bits_ * probability(x);
    constexpr float kBitFloor = 0.01f / std::numbers::pi_v<float>;  // the root of kSlopeFloor
    static_assert(kSlopeFloor == 1e-4);
    const float bit = one_bit(x), square = (1 - fabsf(x)) * (1 + fabsf(x));
    // Written so that a NaN is no floor.
    const float power = slope_power_(bit < kBitFloor ? kBitFloor : bit);
    return bits_over_pi_ * power / sqrtf(square < kFloor ? kFloor : square);
  }

 private:
  static constexpr float kFloor = kSlopeFloor;

  Gradient gradient_;
  Power power_, slope_power_;
  float half_bits_, bits_over_pi_;
};

}  // namespace yoso::cuda
