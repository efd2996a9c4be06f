// Codes on the CPU. A vector holds one coordinate of as many tokens as it has lanes, so a transform
// of d coordinates is d vectors that are added and subtracted; no lane ever meets another.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>

#include "yoso/core/check.h"
#include "yoso/cpu/parallel.h"
#include "yoso/cpu/simd.h"
#include "yoso/ops/hash.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "yoso/ops/hash_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "yoso/cpu/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace yoso {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kMaxWidth = 256;

// Coordinates [padded_width][lanes] of `count` <= lanes rows of `x`; coordinates and tokens that do
// not exist are zero. Writes whole multiples of `lanes` coordinates.
template <class D, class X>
HWY_ATTR void load_tokens(D d, const X* x, int64_t row_stride, int64_t count, int64_t width,
                          int64_t padded_width, hn::TFromD<D>* out) {
  constexpr int64_t kLanes = lanes_of(D());
  for (int64_t c = 0; c < padded_width; c += kLanes) {
    hn::Vec<D> v[kLanes];
    if (count == kLanes) {
      for (int64_t l = 0; l < kLanes; ++l) v[l] = load_columns(d, x + l * row_stride, c, width);
    } else {
      for (int64_t l = 0; l < kLanes; ++l) {
        v[l] = l < count ? load_columns(d, x + l * row_stride, c, width) : hn::Zero(d);
      }
    }
    transpose(d, v);
    for (int64_t l = 0; l < kLanes; ++l) hn::Store(v[l], d, out + (c + l) * kLanes);
  }
}

// The Walsh-Hadamard butterflies among kRadix vectors.
template <int kRadix, class V>
HWY_ATTR HWY_INLINE void butterflies(V* v) {
  for (int half = kRadix / 2; half >= 1; half /= 2) {
    for (int k = 0; k < kRadix; ++k) {
      if (k & half) continue;
      const V a = v[k], b = v[k + half];
      v[k] = hn::Add(a, b);
      v[k + half] = hn::Sub(a, b);
    }
  }
}

// Which signs a pass applies: none, some before its stages, or some between its stages and the same
// stages of the next round, which then follow at once and save a trip through memory.
enum class Signs { kNone, kBefore, kBetween };

// The stages of a transform that pair coordinates `stride` to stride * kRadix / 2 apart.
template <int kRadix, Signs kSigns, class D>
HWY_ATTR void transform_pass(D d, const hn::TFromD<D>* in, hn::TFromD<D>* out, int64_t width,
                             int64_t stride, const float* signs) {
  using T = hn::TFromD<D>;
  constexpr int64_t kLanes = lanes_of(D());
  for (int64_t outer = 0; outer < width; outer += stride * kRadix) {
    for (int64_t c = outer; c < outer + stride; ++c) {
      hn::Vec<D> v[kRadix];
      for (int k = 0; k < kRadix; ++k) {
        v[k] = hn::Load(d, in + (c + k * stride) * kLanes);
        if constexpr (kSigns == Signs::kBefore) {
          v[k] = hn::Mul(v[k], hn::Set(d, static_cast<T>(signs[c + k * stride])));
        }
      }
      butterflies<kRadix>(v);
      if constexpr (kSigns == Signs::kBetween) {
        for (int k = 0; k < kRadix; ++k) {
          v[k] = hn::Mul(v[k], hn::Set(d, static_cast<T>(signs[c + k * stride])));
        }
        butterflies<kRadix>(v);
      }
      for (int k = 0; k < kRadix; ++k) hn::Store(v[k], d, out + (c + k * stride) * kLanes);
    }
  }
}

template <Signs kSigns, class D>
HWY_ATTR void transform_pass(D d, int radix, const hn::TFromD<D>* in, hn::TFromD<D>* out,
                             int64_t width, int64_t stride, const float* signs) {
  switch (radix) {
    case 8:
      return transform_pass<8, kSigns>(d, in, out, width, stride, signs);
    case 4:
      return transform_pass<4, kSigns>(d, in, out, width, stride, signs);
    case 2:
      return transform_pass<2, kSigns>(d, in, out, width, stride, signs);
    default:
      return transform_pass<1, kSigns>(d, in, out, width, stride, signs);
  }
}

// out = H S2 H S1 H S0 in, for `signs` [3][width]. The stages of one transform commute, so every
// second round runs them backwards and the passes at a turn are fused: 4 trips through memory for
// d = 64 instead of 6.
template <class D>
HWY_ATTR void rotate(D d, const hn::TFromD<D>* in, hn::TFromD<D>* out, int64_t width,
                     const float* signs) {
  const int stages = std::countr_zero(static_cast<uint64_t>(width));
  const int passes = std::max(1, (stages + 2) / 3);
  int radix[3];
  int64_t stride[3];
  for (int p = 0, done = 0; p < passes; ++p) {
    const int bits = (stages - done + passes - p - 1) / (passes - p);
    radix[p] = 1 << bits;
    done += bits;
    stride[p] = width >> done;
  }
  const int last = passes - 1;
  const float* s1 = signs + width;
  const float* s2 = signs + 2 * width;
  transform_pass<Signs::kBefore>(d, radix[0], in, out, width, stride[0], signs);
  if (passes == 1) {
    transform_pass<Signs::kBefore>(d, radix[0], out, out, width, stride[0], s1);
    transform_pass<Signs::kBefore>(d, radix[0], out, out, width, stride[0], s2);
    return;
  }
  for (int p = 1; p < last; ++p) {
    transform_pass<Signs::kNone>(d, radix[p], out, out, width, stride[p], nullptr);
  }
  transform_pass<Signs::kBetween>(d, radix[last], out, out, width, stride[last], s1);
  for (int p = last - 1; p > 0; --p) {
    transform_pass<Signs::kNone>(d, radix[p], out, out, width, stride[p], nullptr);
  }
  transform_pass<Signs::kBetween>(d, radix[0], out, out, width, stride[0], s2);
  for (int p = 1; p <= last; ++p) {
    transform_pass<Signs::kNone>(d, radix[p], out, out, width, stride[p], nullptr);
  }
}

// out[r] = sum_c numbers[r][c] in[c] for `count` <= 8 rows r.
template <class D>
HWY_ATTR void project(D d, const hn::TFromD<D>* in, hn::TFromD<D>* out, int64_t width,
                      const float* numbers, int64_t count) {
  using T = hn::TFromD<D>;
  constexpr int64_t kLanes = lanes_of(D());
  hn::Vec<D> sums[8];
  for (int r = 0; r < 8; ++r) sums[r] = hn::Zero(d);
  for (int64_t c = 0; c < width; ++c) {
    const auto x = hn::Load(d, in + c * kLanes);
    for (int r = 0; r < 8; ++r) {
      const float number = numbers[std::min<int64_t>(r, count - 1) * width + c];
      sums[r] = hn::MulAdd(hn::Set(d, static_cast<T>(number)), x, sums[r]);
    }
  }
  for (int r = 0; r < count; ++r) hn::Store(sums[r], d, out + r * kLanes);
}

// Bit t of a code is [projections[t] > 0]; writes the codes of `count` <= lanes tokens.
template <class D, class Code>
HWY_ATTR HWY_INLINE void write_codes(D d, const hn::TFromD<D>* projections, int64_t bits, Code* out,
                                     int64_t count) {
  const hn::RebindToSigned<D> di;
  using Word = hn::TFromD<decltype(di)>;
  constexpr int64_t kLanes = lanes_of(D());
  // From the highest bit down: a mask is -1 where it holds.
  auto code = hn::Zero(di);
  for (int64_t t = bits - 1; t >= 0; --t) {
    const auto positive = hn::Gt(hn::Load(d, projections + t * kLanes), hn::Zero(d));
    code = hn::Sub(hn::Add(code, code), hn::VecFromMask(di, hn::RebindMask(di, positive)));
  }
  if constexpr (sizeof(Word) == 4 && kLanes > 1) {
    if (count == kLanes) {
      const hn::Rebind<Code, decltype(di)> narrow;
      return hn::StoreU(hn::DemoteTo(narrow, code), narrow, out);
    }
  }
  HWY_ALIGN Word buffer[kLanes];
  hn::Store(code, di, buffer);
  for (int64_t l = 0; l < count; ++l) out[l] = static_cast<Code>(buffer[l]);
}

// Codes of rows [first, last) of one group.
template <class X, class Code>
HWY_ATTR void hash_rows(const Hash& a, int64_t b, int64_t h, int64_t first, int64_t last) {
  using T = Accumulator<X>;
  const hn::ScalableTag<T> d;
  constexpr int64_t kLanes = lanes_of(hn::ScalableTag<T>());
  HWY_ALIGN T x[kMaxWidth * kLanes];
  HWY_ALIGN T y[kMaxWidth * kLanes];
  const ProjectionShape shape = a.shape();
  const int64_t bits = a.code_bits, padded_width = shape.padded_width();
  const float* numbers =
      a.projections + h / (a.x.heads / a.projection_heads) * shape.numbers_per_head();
  for (int64_t i = first; i < last; i += kLanes) {
    const int64_t count = std::min(kLanes, last - i);
    load_tokens(d, a.x.row<X>(b, h, i), a.x.row_stride, count, a.x.cols, padded_width, x);
    for (int64_t m = 0; m < shape.num_hashes;) {
      int64_t codes = 1;
      if (a.projection == Projection::kHadamard) {
        codes = std::min(shape.codes_per_part(), shape.num_hashes - m);
        rotate(d, x, y, padded_width, numbers + m / shape.codes_per_part() * 3 * padded_width);
      } else {
        for (int64_t t = 0; t < bits; t += 8) {
          project(d, x, y + t * kLanes, a.x.cols, numbers + (m * bits + t) * a.x.cols,
                  std::min<int64_t>(8, bits - t));
        }
      }
      for (int64_t k = 0; k < codes; ++k, ++m) {
        write_codes(d, y + k * bits * kLanes, bits, a.codes.row<Code>(b, h, m) + i, count);
      }
    }
  }
}

void hash_rows_of_type(const Hash& a, int64_t b, int64_t h, int64_t first, int64_t last) {
  with_float_type(a.x.dtype, [&]<class X>() {
    if (a.codes.dtype == DType::kUint8) {
      hash_rows<X, uint8_t>(a, b, h, first, last);
    } else {
      hash_rows<X, uint16_t>(a, b, h, first, last);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace yoso
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace yoso {

HWY_EXPORT(hash_rows_of_type);

void cpu::hash(const Hash& a) {
  a.check();
  use_simd_level();
  constexpr int64_t kRowsPerItem = 512;
  const int64_t blocks = (a.x.rows + kRowsPerItem - 1) / kRowsPerItem;
  const auto run = HWY_DYNAMIC_DISPATCH(hash_rows_of_type);
  parallel_for(a.x.batch * a.x.heads * blocks, [&](int64_t item, int64_t) {
    const int64_t group = item / blocks, first = item % blocks * kRowsPerItem;
    run(a, group / a.x.heads, group % a.x.heads, first, std::min(first + kRowsPerItem, a.x.rows));
  });
}

}  // namespace yoso
#endif  // HWY_ONCE
