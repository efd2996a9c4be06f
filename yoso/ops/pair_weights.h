// The weight p(x) = (1 - acos(x)/pi)^T of a pair and its slopes, on the GPU: to the accuracy of
// float, or to that of a factor of 16 bits in as few instructions as possible.
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

__device__ inline float approximate_root(float x) {
  asm("sqrt.approx.ftz.f32 %0, %0;" : "+f"(x));
  return x;
}
__device__ inline float approximate_reciprocal_root(float x) {
  asm("rsqrt.approx.ftz.f32 %0, %0;" : "+f"(x));
  return x;
}
// base^exponent, relative error below 2^-21 (1 + |log2 of the result|).
__device__ inline float approximate_power(float base, float exponent) {
  asm("lg2.approx.ftz.f32 %0, %0;" : "+f"(base));
  base *= exponent;
  asm("ex2.approx.ftz.f32 %0, %0;" : "+f"(base));
  return base;
}

// 0 <= magnitude <= |x|: `magnitude` with the sign of x, or NaN where x is.
__device__ inline float with_sign_of(float magnitude, float x) {
#if __CUDA_ARCH__ >= 860
  asm("min.NaN.xorsign.abs.f32 %0, %0, %1;" : "+f"(magnitude) : "f"(x));
  return magnitude;
#else
  return x != x ? x : copysignf(magnitude, x);
#endif
}

// one_bit with f of degree 4: relative error 6e-6, and an absolute one of 2^-23.
struct CoarseBit {
  float bit, t;  // t = 1 - |x|, not below 0

  __device__ explicit CoarseBit(float x) {
    t = __saturatef(1 - fabsf(x));
    float f = 0.00273485761f;
    f = fmaf(f, t, 0.000406228355f);
    f = fmaf(f, t, 0.0093000941f);
    f = fmaf(f, t, 0.0373952873f);
    f = fmaf(f, t, 0.450160712f);
    // bit = 1/2 + asin(x)/pi, and 0 <= asin(|x|)/pi = 1/2 - a <= |x|.
    bit = 0.5f + with_sign_of(fmaf(-approximate_root(t), f, 0.5f), x);
  }
};

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

  // Each of `bases`, to the accuracy of a factor of 16 bits: one decision for all of them. The
  // usual T and T - 1 without a loop, which would cost as many copies as products.
  template <int kCount>
  __device__ void operator()(float (&bases)[kCount][4]) const {
    if (whole_ == 8) {
      for_each(bases, [](float& x) {
        const float x2 = x * x, x4 = x2 * x2;
        x = x4 * x4;
      });
    } else if (whole_ == 7) {
      for_each(bases, [](float& x) {
        const float x2 = x * x, x4 = x2 * x2;
        x *= x4 * x2;
      });
    } else if (whole_ == 0) {
      for_each(bases, [](float& x) { x = 1; });
    } else if (whole_ < 0) {
      for_each(bases, [&](float& x) { x = approximate_power(x, exponent_); });
    } else {
      float powers[kCount][4];
#pragma unroll
      for (int i = 0; i < 4 * kCount; ++i) powers[i / 4][i % 4] = bases[i / 4][i % 4];
        // From the highest binary digit of the exponent down.
#pragma unroll 1
      for (int digit = 30 - __clz(whole_); digit >= 0; --digit) {
        for_each(powers, [](float& x) { x *= x; });
        if (whole_ >> digit & 1) {
#pragma unroll
          for (int i = 0; i < 4 * kCount; ++i) powers[i / 4][i % 4] *= bases[i / 4][i % 4];
        }
      }
#pragma unroll
      for (int i = 0; i < 4 * kCount; ++i) bases[i / 4][i % 4] = powers[i / 4][i % 4];
    }
  }

  template <int kCount, class F>
  static __device__ void for_each(float (&x)[kCount][4], F&& f) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
#pragma unroll
      for (int k = 0; k < 4; ++k) f(x[i][k]);
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
    const float bit = one_bit(x), square = (1 - fabsf(x)) * (1 + fabsf(x));
    // Written so that a NaN is no floor.
    const float power = slope_power_(bit < kBitFloor ? kBitFloor : bit);
    return bits_over_pi_ * power / sqrtf(square < kFloor ? kFloor : square);
  }

  // For factors of 16 bits: x becomes p(x).
  template <int kCount>
  __device__ void weigh(float (&x)[kCount][4]) const {
    Power::for_each(x, [](float& cosine) { cosine = CoarseBit(cosine).bit; });
    power_(x);
  }

  // x becomes p(x), and g, which is G.v, slope(x) g / slope_factor().
  template <int kCount>
  __device__ void weigh(float (&x)[kCount][4], float (&g)[kCount][4]) const {
    if (gradient_ == Gradient::kSurrogate) {
      weigh(x);
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
#pragma unroll
        for (int k = 0; k < 4; ++k) g[i][k] *= x[i][k];
      }
      return;
    }
    float slopes[kCount][4];
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const CoarseBit c(x[i][k]);
        // 1 - x^2 = t (2 - t)
        g[i][k] *= approximate_reciprocal_root(fmaxf(c.t * (2 - c.t), kFloor));
        x[i][k] = c.bit;
        slopes[i][k] = c.bit < kBitFloor ? kBitFloor : c.bit;
      }
    }
    slope_power_(slopes);
    power_(x);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
#pragma unroll
      for (int k = 0; k < 4; ++k) g[i][k] *= slopes[i][k];
    }
  }
  __device__ float slope_factor() const {
    return gradient_ == Gradient::kSurrogate ? half_bits_ : bits_over_pi_;
  }

 private:
  static constexpr float kFloor = kSlopeFloor;
  static constexpr float kBitFloor = 0.01f / std::numbers::pi_v<float>;  // of the root of kFloor
  static_assert(kSlopeFloor == 1e-4);

  Gradient gradient_;
  Power power_, slope_power_;
  float half_bits_, bits_over_pi_;
};

}  // namespace yoso::cuda
