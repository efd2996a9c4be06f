// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/tiles_cpu.h"

#include <cmath>

#include "yoso/ops/expected_attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "yoso/ops/tiles_cpu.cc"
#include <hwy/foreach_target.h>
// clang-format off: foreach_target.h includes this file again.
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace yoso::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Accumulators of a register tile: kGroup rows of two vectors. 16 of the 32 registers of AVX-512,
// 8 of 16 elsewhere.
constexpr int kGroup = HWY_TARGET <= HWY_AVX3 ? 8 : 4;

// `kVectors` columns of vectors of kGroup rows of a product.
template <int kVectors, class T>
HWY_INLINE void multiply_group(const TileProduct<T>& p, int64_t row, int64_t column) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const T* a = p.a + row * p.a_row;
  const T* b = p.b + column;
  T* c = p.c + row * p.c_row + column;
  hn::Vec<decltype(d)> sum[kGroup][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kGroup; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::Zero(d);
  }
  for (int64_t t = 0; t < p.steps; ++t, a += p.a_step, b += p.b_row) {
    hn::Vec<decltype(d)> right[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) right[v] = hn::LoadU(d, b + v * lanes);
#pragma GCC unroll 8
    for (int r = 0; r < kGroup; ++r) {
      const auto left = hn::Set(d, a[r * p.a_row]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(left, right[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kGroup; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      T* to = c + r * p.c_row + v * lanes;
      if (p.sum == Sum::kContinued) sum[r][v] = hn::Add(hn::LoadU(d, to), sum[r][v]);
      hn::StoreU(sum[r][v], d, to);
    }
  }
}

// Two vectors of b's columns stay in L1 while a's rows pass by.
template <class T>
HWY_INLINE void multiply_tile(const TileProduct<T>& p) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  int64_t column = 0;
  for (; column + 2 * lanes <= round_up(p.columns, lanes); column += 2 * lanes) {
    for (int64_t row = 0; row < p.rows; row += kGroup) multiply_group<2>(p, row, column);
  }
  if (column < p.columns) {
    for (int64_t row = 0; row < p.rows; row += kGroup) multiply_group<1>(p, row, column);
  }
}

void MultiplyFloat(const TileProduct<float>& product) { multiply_tile(product); }
void MultiplyDouble(const TileProduct<double>& product) { multiply_tile(product); }

// base^exponent for base in [0, 1].
class Power {
 public:
  explicit Power(double exponent)
      : squarings_(exponent >= 0 && exponent <= 64 && exponent == std::floor(exponent)),
        exponent_(exponent) {}

  template <class D, class V = hn::Vec<D>>
  HWY_INLINE V operator()(D d, V base) const {
    if (squarings_) {
      V power = hn::Set(d, 1.0f);
      for (int rest = static_cast<int>(exponent_);;) {
        if (rest & 1) power = hn::Mul(power, base);
        if ((rest >>= 1) == 0) return power;
        base = hn::Mul(base, base);
      }
    }
    const V scaled_log = hn::Mul(hn::Set(d, static_cast<float>(exponent_)), hn::Log(d, base));
    return hn::IfThenElseZero(hn::Gt(base, hn::Zero(d)), hn::Exp(d, scaled_log));
  }

 private:
  bool squarings_;
  double exponent_;
};

// 1 - acos(x)/pi, the probability that one bit is equal, given |x| clamped to 1.
// acos(m)/pi = sqrt(1 - m) f(m) for m in [0, 1]; f is the minimax polynomial of relative
// error 1.5e-8 (Remez). Negative x take acos(-x)/pi itself, without cancellation near x = -1.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V one_bit(D d, V x, V magnitude) {
  constexpr float kF[] = {0.5f,           -0.0683088867f,  0.0283223582f,  -0.0159677573f,
                          0.00982391945f, -0.00542562521f, 0.00211313834f, -0.000398987901f};
  V f = hn::Set(d, kF[7]);
#pragma GCC unroll 7
  for (int i = 6; i >= 0; --i) f = hn::MulAdd(f, magnitude, hn::Set(d, kF[i]));
  const V one = hn::Set(d, 1.0f);
  const V acos_over_pi = hn::Mul(hn::Sqrt(hn::Sub(one, magnitude)), f);
  return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), acos_over_pi, hn::Sub(one, acos_over_pi));
}

void CollideFloat(float* x, int64_t count, double code_bits) {
  const hn::ScalableTag<float> d;
  const auto one = hn::Set(d, 1.0f);
  const Power power(code_bits);
  for (int64_t i = 0; i < count; i += static_cast<int64_t>(hn::Lanes(d))) {
    const auto cosine = hn::LoadU(d, x + i);
    const auto magnitude = hn::Min(hn::Abs(cosine), one);
    hn::StoreU(power(d, one_bit(d, cosine, magnitude)), d, x + i);
  }
}

void CollideSurrogateFloat(float* x, float* g, int64_t count, double code_bits) {
  const hn::ScalableTag<float> d;
  const auto one = hn::Set(d, 1.0f);
  const auto half_bits = hn::Set(d, static_cast<float>(code_bits / 2));
  const Power power(code_bits);
  for (int64_t i = 0; i < count; i += static_cast<int64_t>(hn::Lanes(d))) {
    const auto cosine = hn::LoadU(d, x + i);
    const auto magnitude = hn::Min(hn::Abs(cosine), one);
    const auto probability = power(d, one_bit(d, cosine, magnitude));
    hn::StoreU(probability, d, x + i);
    hn::StoreU(hn::Mul(hn::Mul(half_bits, probability), hn::LoadU(d, g + i)), d, g + i);
  }
}

void CollideTrueFloat(float* x, float* g, int64_t count, double code_bits) {
  const hn::ScalableTag<float> d;
  const auto one = hn::Set(d, 1.0f);
  const auto bits_over_pi = hn::Set(d, static_cast<float>(code_bits / 3.14159265358979323846));
  const auto floor = hn::Set(d, static_cast<float>(kSlopeFloor));
  const auto bit_floor =
      hn::Set(d, static_cast<float>(std::sqrt(kSlopeFloor) / 3.14159265358979323846));
  const Power power(code_bits), slope_power(code_bits - 1);
  for (int64_t i = 0; i < count; i += static_cast<int64_t>(hn::Lanes(d))) {
    const auto cosine = hn::LoadU(d, x + i);
    const auto magnitude = hn::Min(hn::Abs(cosine), one);
    const auto bit = one_bit(d, cosine, magnitude);
    const auto squared_sine = hn::Mul(hn::Sub(one, magnitude), hn::Add(one, magnitude));
    const auto slope = hn::Div(hn::Mul(bits_over_pi, slope_power(d, hn::Max(bit, bit_floor))),
                               hn::Sqrt(hn::Max(squared_sine, floor)));
    hn::StoreU(power(d, bit), d, x + i);
    hn::StoreU(hn::Mul(slope, hn::LoadU(d, g + i)), d, g + i);
  }
}

}  // namespace yoso::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace yoso::cpu {

HWY_EXPORT(MultiplyFloat);
HWY_EXPORT(MultiplyDouble);
HWY_EXPORT(CollideFloat);
HWY_EXPORT(CollideSurrogateFloat);
HWY_EXPORT(CollideTrueFloat);

void multiply(const TileProduct<float>& product) { HWY_DYNAMIC_DISPATCH(MultiplyFloat)(product); }
void multiply(const TileProduct<double>& product) { HWY_DYNAMIC_DISPATCH(MultiplyDouble)(product); }

void collide(float* x, int64_t count, double code_bits) {
  HWY_DYNAMIC_DISPATCH(CollideFloat)(x, count, code_bits);
}

void collide(float* x, float* g, int64_t count, double code_bits, Gradient gradient) {
  if (gradient == Gradient::kTrue) {
    HWY_DYNAMIC_DISPATCH(CollideTrueFloat)(x, g, count, code_bits);
  } else {
    HWY_DYNAMIC_DISPATCH(CollideSurrogateFloat)(x, g, count, code_bits);
  }
}

// Doubles are for checking gradients: the accuracy of the C library counts, not speed.
void collide(double* x, int64_t count, double code_bits) {
  for (int64_t i = 0; i < count; ++i) x[i] = reference::collision_probability(x[i], code_bits);
}

void collide(double* x, double* g, int64_t count, double code_bits, Gradient gradient) {
  for (int64_t i = 0; i < count; ++i) {
    const double probability = reference::collision_probability(x[i], code_bits);
    g[i] *= gradient == Gradient::kTrue ? reference::collision_slope(x[i], code_bits)
                                        : code_bits / 2 * probability;
    x[i] = probability;
  }
}

}  // namespace yoso::cpu
#endif  // HWY_ONCE
