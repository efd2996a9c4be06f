// Square transposes of vectors in registers. Included once per instruction set by a kernel file.
// SPDX-License-Identifier: Apache-2.0

// Per-target include guard of Highway.
#if defined(YOSO_CPU_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef YOSO_CPU_TRANSPOSE_INL_H_
#undef YOSO_CPU_TRANSPOSE_INL_H_
#else
#define YOSO_CPU_TRANSPOSE_INL_H_
#endif

#include <hwy/highway.h>

#include "yoso/core/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace yoso {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Lanes of a vector of D: a constant on every level this project compiles for.
template <class D>
constexpr int64_t lanes_of(D) {
  return static_cast<int64_t>(hn::MaxLanes(D()));
}

#if HWY_TARGET == HWY_SCALAR

// A vector is one number: there is nothing to transpose.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void transpose(D, V*) {}

#else

// v[i] lane j becomes v[j] lane i, for as many vectors as one has lanes.
//   1. Inside every 128-bit block, small transposes of the rows of a group (4 floats, 2 doubles).
//   2. Then whole blocks change places: block b of group g with block g of group b.
template <class D, class V = hn::Vec<D>>
HWY_ATTR HWY_INLINE void transpose(D d, V* v) {
  using T = hn::TFromD<D>;
  constexpr int64_t kLanes = lanes_of(D());
  constexpr int64_t kInBlock = HWY_MIN(kLanes, static_cast<int64_t>(16 / sizeof(T)));
  constexpr int64_t kGroups = kLanes / kInBlock;
  if constexpr (kInBlock == 2) {
    for (int64_t i = 0; i < kLanes; i += 2) {
      const V a = v[i], b = v[i + 1];
      v[i] = hn::InterleaveLower(d, a, b);
      v[i + 1] = hn::InterleaveUpper(d, a, b);
    }
  } else if constexpr (kInBlock == 4) {
    const hn::RepartitionToWide<hn::RebindToUnsigned<D>> dw;
    for (int64_t i = 0; i < kLanes; i += 4) {
      const auto low01 = hn::BitCast(dw, hn::InterleaveLower(d, v[i], v[i + 1]));
      const auto low23 = hn::BitCast(dw, hn::InterleaveLower(d, v[i + 2], v[i + 3]));
      const auto high01 = hn::BitCast(dw, hn::InterleaveUpper(d, v[i], v[i + 1]));
      const auto high23 = hn::BitCast(dw, hn::InterleaveUpper(d, v[i + 2], v[i + 3]));
      v[i] = hn::BitCast(d, hn::InterleaveLower(dw, low01, low23));
      v[i + 1] = hn::BitCast(d, hn::InterleaveUpper(dw, low01, low23));
      v[i + 2] = hn::BitCast(d, hn::InterleaveLower(dw, high01, high23));
      v[i + 3] = hn::BitCast(d, hn::InterleaveUpper(dw, high01, high23));
    }
  }
  if constexpr (kGroups == 2) {
    for (int64_t c = 0; c < kInBlock; ++c) {
      const V a = v[c], b = v[kInBlock + c];
      v[c] = hn::ConcatLowerLower(d, b, a);
      v[kInBlock + c] = hn::ConcatUpperUpper(d, b, a);
    }
  } else if constexpr (kGroups == 4) {
    for (int64_t k = 0; k < kInBlock; ++k) {
      const V a = v[k], b = v[kInBlock + k], c = v[2 * kInBlock + k], e = v[3 * kInBlock + k];
      const V even_ab = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(b), a);  // a0 b0 a2 b2
      const V odd_ab = hn::OddEvenBlocks(b, hn::SwapAdjacentBlocks(a));   // a1 b1 a3 b3
      const V even_ce = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(e), c);
      const V odd_ce = hn::OddEvenBlocks(e, hn::SwapAdjacentBlocks(c));
      v[k] = hn::ConcatLowerLower(d, even_ce, even_ab);
      v[kInBlock + k] = hn::ConcatLowerLower(d, odd_ce, odd_ab);
      v[2 * kInBlock + k] = hn::ConcatUpperUpper(d, even_ce, even_ab);
      v[3 * kInBlock + k] = hn::ConcatUpperUpper(d, odd_ce, odd_ab);
    }
  }
}

#endif  // HWY_TARGET == HWY_SCALAR

// Columns [first, first + lanes) of a row of `width` elements, widened; 0 from `width` on.
template <class D, class X>
HWY_ATTR HWY_INLINE hn::Vec<D> load_columns(D d, const X* row, int64_t first, int64_t width) {
  using T = hn::TFromD<D>;
  constexpr int64_t kLanes = lanes_of(D());
  if constexpr (std::is_same_v<X, T>) {
    if (first + kLanes <= width) return hn::LoadU(d, row + first);
  }
  HWY_ALIGN T buffer[kLanes];
  for (int64_t l = 0; l < kLanes; ++l) {
    buffer[l] = first + l < width ? static_cast<T>(to_float(row[first + l])) : T{0};
  }
  return hn::Load(d, buffer);
}

}  // namespace HWY_NAMESPACE
}  // namespace yoso
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
