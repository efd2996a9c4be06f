// The weight p(x) = (1 - acos(x)/pi)^T of a pair and its slopes, on the GPU: to the accuracy of
// float, or to that of a factor of 16 bits in as few instructions as possible.
//
// 1 - acos(x)/pi is the chance that one bit is equal. In float it is 1 - a for x >= 0 and a for
// x < 0, where a = acos(|x|)/pi = sqrt(t) f(t), t = 1 - |x|. For factors of 16 bits its square is
// computed, (acos(s) 2/pi)^2 with s = sqrt((1 - x)/2), because as a function of s on [0, 1] that is
// smooth at both ends. Polynomials are minimax in the relative error (Remez). A NaN stays one.
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

// x between -1/2 and 1/2; a NaN stays one.
__device__ inline float clamped_to_half(float x) {
#if __CUDA_ARCH__ >= 860
  asm("min.NaN.xorsign.abs.f32 %0, %0, %1;" : "+f"(x) : "f"(0.5f));
  return x;
#else
  return x != x ? x : copysignf(fminf(fabsf(x), 0.5f), x);
#endif
}

// (1 - x)/2 of x = scale product, |x| at most 1.
class CosineScale {
 public:
  CosineScale() = default;
  __device__ explicit CosineScale(float scale) : factor_(-0.5f * scale) {}

  __device__ float half_versine(float product) const {
    return 0.5f + clamped_to_half(product * factor_);
  }

 private:
  float factor_ = -0.5f;
};

// (1 - acos(x)/pi)^2 of (1 - x)/2: relative error 1.6e-5, and roundings of 2^-21.6 in all, as if x
// were off by less than 6 2^-22. May be as little below 0.
__device__ inline float squared_chance(float half_versine) {
  const float s = approximate_root(half_versine);
  float f = -0.0135249807f;
  f = fmaf(f, s, 0.068703499f);
  f = fmaf(f, s, -0.179846472f);
  f = fmaf(f, s, 0.397085466f);
  f = fmaf(f, s, -1.27240236f);
  return fmaf(f, s, 0.999984847f);
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

  // The root of each of `squares` to that power, to the accuracy of a factor of 16 bits: one
  // decision for all of them. The usual T and T - 1 without a loop, which would cost as many copies
  // as products. What should be 0 may be a little below.
  template <int kCount>
  __device__ void of_roots(float (&squares)[kCount][4]) const {
    if (whole_ == 8) {
      for_each(squares, [](float& x) {
        const float x2 = x * x;
        x = x2 * x2;
      });
    } else if (whole_ == 7) {
      for_each(squares, [](float& x) { x *= x * approximate_root(fabsf(x)) * x; });
    } else if (whole_ == 0) {
      for_each(squares, [](float& x) { x = 1; });
    } else if (whole_ < 0) {
      const float half = exponent_ / 2;
      for_each(squares, [&](float& x) { x = approximate_power(fabsf(x), half); });
    } else {
      float powers[kCount][4];
#pragma unroll
      for (int i = 0; i < 4 * kCount; ++i) {
        float& x = powers[i / 4][i % 4];
        x = whole_ % 2 == 0 ? 1.0f : approximate_root(fabsf(squares[i / 4][i % 4]));
      }
#pragma unroll 1
      for (int rest = whole_ / 2; rest > 0; rest /= 2) {
        if (rest % 2 == 1) {
#pragma unroll
          for (int i = 0; i < 4 * kCount; ++i) powers[i / 4][i % 4] *= squares[i / 4][i % 4];
        }
        for_each(squares, [](float& x) { x *= x; });
      }
#pragma unroll
      for (int i = 0; i < 4 * kCount; ++i) squares[i / 4][i % 4] = powers[i / 4][i % 4];
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

  // For factors of 16 bits: x, products that are cosines when scaled, becomes p(x). Two scales for
  // every kCount / (kRows / 2) tiles: of the rows of x[i][0], x[i][1] and of the other two.
  template <int kCount, int kRows>
  __device__ void weigh(float (&x)[kCount][4], const CosineScale (&scales)[kRows]) const {
#pragma unroll
    for (int i = 0; i < 4 * kCount; ++i) {
      float& product = x[i / 4][i % 4];
      product = squared_chance(scale_of<kCount>(i, scales).half_versine(product));
    }
    power_.of_roots(x);
  }

  // x becomes p(x), and g, which is G.v, slope(x) g / slope_factor().
  template <int kCount, int kRows>
  __device__ void weigh(float (&x)[kCount][4], const CosineScale (&scales)[kRows],
                        float (&g)[kCount][4]) const {
    if (gradient_ == Gradient::kSurrogate) {
      weigh(x, scales);
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
#pragma unroll
        for (int k = 0; k < 4; ++k) g[i][k] *= x[i][k];
      }
      return;
    }
    // A few at a time: registers are short.
    static_assert(kCount % 2 == 0);
#pragma unroll
    for (int part = 0; part < kCount; part += 2) {
      float slopes[2][4];
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        float &product = x[part + k / 4][k % 4], &factor = g[part + k / 4][k % 4];
        const float w = scale_of<kCount>(4 * part + k, scales).half_versine(product);
        product = squared_chance(w);
        // 1 - x^2 = 4 w (1 - w)
        factor *= approximate_reciprocal_root(fmaxf(4 * w * (1 - w), kFloor));
        constexpr float kSquareFloor = kBitFloor * kBitFloor;
        slopes[k / 4][k % 4] = product < kSquareFloor ? kSquareFloor : product;
      }
      slope_power_.of_roots(slopes);
#pragma unroll
      for (int k = 0; k < 8; ++k) g[part + k / 4][k % 4] *= slopes[k / 4][k % 4];
    }
    power_.of_roots(x);
  }
  __device__ float slope_factor() const {
    return gradient_ == Gradient::kSurrogate ? half_bits_ : bits_over_pi_;
  }

 private:
  template <int kCount, int kRows>
  static __device__ const CosineScale& scale_of(int i, const CosineScale (&scales)[kRows]) {
    return scales[i / (8 * kCount / kRows) * 2 + i % 4 / 2];
  }

  static constexpr float kFloor = kSlopeFloor;
  static constexpr float kBitFloor = 0.01f / std::numbers::pi_v<float>;  // of the root of kFloor
  static_assert(kSlopeFloor == 1e-4);

  Gradient gradient_;
  Power power_, slope_power_;
  float half_bits_, bits_over_pi_;
};

}  // namespace yoso::cuda
