// What the tests of operators share: arrays in every type and layout, sides with masks and offsets,
// numbers to put in, and comparisons.
//
// A test draws a case in the type under test, runs the backend on it, and runs the reference on a
// copy widened to double, which is exact. The bound of an element is
//     factor * u * magnitude + rounding of the output,
// u: the unit roundoff of the sums (float or double), magnitude: the sum of the absolute values of
// the terms, which is the reference run on absolute values. A sum of n terms in any order is within
// (n - 1) u magnitude (Higham, Accuracy and Stability, 4.2). Small whole numbers sum without any
// rounding, in any order, below 2^24: there `factor` counts the few roundings that are left, and a
// single token too many or too few is seen at any length.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "yoso/core/array.h"
#include "yoso/core/check.h"
#include "yoso/core/random.h"
#include "yoso/core/testing.h"

namespace yoso {

// How a test that takes a DType is listed.
inline void PrintTo(DType dtype, std::ostream* out) { *out << name_of(dtype); }

namespace testing {

// The types that the backend under test takes (backend_testing.h), the most precise one first.
#ifdef YOSO_TEST_CUDA
inline constexpr DType kFloatTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16};
#else
inline constexpr DType kFloatTypes[] = {DType::kFloat64, DType::kFloat32, DType::kBFloat16,
                                        DType::kFloat16};
#endif
inline constexpr DType kWidest = kFloatTypes[0];

// Half the distance from 1 to the next number: the largest relative error of rounding once.
inline double unit_roundoff(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 0x1p-53;
    case DType::kBFloat16:
      return 0x1p-8;
    case DType::kFloat16:
      return 0x1p-11;
    default:
      return 0x1p-24;
  }
}

inline DType accumulator(DType dtype) {
  return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

// How a [B, H, rows, cols] array lies in memory.
enum class Layout : uint8_t {
  kDense,
  kRowsFirst,  // [B, rows, H, cols], as a projection of tokens leaves it
  kGaps,       // unaligned start, and space after every row, head and batch entry
};

inline const char* name_of(Layout layout) {
  constexpr const char* kNames[] = {"dense", "rowsfirst", "gaps"};
  return kNames[static_cast<int>(layout)];
}

// An array and its memory. Every byte starts as 0xff: NaN in each floating type, the largest code.
class Buffer {
 public:
  Buffer() = default;  // an absent array

  Buffer(DType dtype, int64_t batch, int64_t heads, int64_t rows, int64_t cols,
         Layout layout = Layout::kDense) {
    const int64_t gap = layout == Layout::kGaps ? 1 : 0;
    array_ = {nullptr, dtype, batch, heads, rows, cols, 0, 0, 0};
    if (layout == Layout::kRowsFirst) {
      array_.row_stride = heads * cols;
      array_.head_stride = cols;
      array_.batch_stride = rows * heads * cols;
    } else {
      array_.row_stride = cols + 3 * gap;
      array_.head_stride = rows * array_.row_stride + 5 * gap;
      array_.batch_stride = heads * array_.head_stride + 7 * gap;
    }
    start_ = static_cast<size_t>(gap * size_of(dtype));
    // One byte more than the elements, so that an empty array has an address.
    bytes_.resize(start_ + static_cast<size_t>(batch * array_.batch_stride * size_of(dtype)) + 1);
    poison();
  }

  void poison() { std::fill(bytes_.begin(), bytes_.end(), std::byte{0xff}); }

  Array array() {
    Array a = array_;
    if (!bytes_.empty()) a.data = bytes_.data() + start_;
    return a;
  }
  ConstArray array() const { return const_cast<Buffer*>(this)->array(); }

  DType dtype() const { return array_.dtype; }
  bool absent() const { return bytes_.empty(); }
  int64_t batch() const { return array_.batch; }
  int64_t heads() const { return array_.heads; }
  int64_t rows() const { return array_.rows; }
  int64_t cols() const { return array_.cols; }

  double at(int64_t b, int64_t h, int64_t i, int64_t c) const {
    const ConstArray a = array();
    if (a.dtype == DType::kUint8) return a.row<uint8_t>(b, h, i)[c];
    if (a.dtype == DType::kUint16) return a.row<uint16_t>(b, h, i)[c];
    return with_float_type(a.dtype,
                           [&]<class T>() { return double{to_float(a.row<T>(b, h, i)[c])}; });
  }

  void set(int64_t b, int64_t h, int64_t i, int64_t c, double value) {
    const Array a = array();
    if (a.dtype == DType::kUint8) {
      a.row<uint8_t>(b, h, i)[c] = static_cast<uint8_t>(value);
    } else if (a.dtype == DType::kUint16) {
      a.row<uint16_t>(b, h, i)[c] = static_cast<uint16_t>(value);
    } else {
      with_float_type(a.dtype, [&]<class T>() { a.row<T>(b, h, i)[c] = from_float<T>(value); });
    }
  }

  // Calls f(b, h, i, c) for every element.
  template <class F>
  void for_each(F&& f) const {
    for (int64_t b = 0; b < batch(); ++b)
      for (int64_t h = 0; h < heads(); ++h)
        for (int64_t i = 0; i < rows(); ++i)
          for (int64_t c = 0; c < cols(); ++c) f(b, h, i, c);
  }

  // Every element becomes f(b, h, i, c).
  template <class F>
  void fill(F&& f) {
    for_each([&](int64_t b, int64_t h, int64_t i, int64_t c) {
      set(b, h, i, c, static_cast<double>(f(b, h, i, c)));
    });
  }

  // A dense copy in double whose elements are f(element).
  template <class F>
  Buffer map(F&& f) const {
    if (absent()) return {};
    Buffer copy(DType::kFloat64, batch(), heads(), rows(), cols());
    copy.fill([&](int64_t b, int64_t h, int64_t i, int64_t c) { return f(at(b, h, i, c)); });
    return copy;
  }
  Buffer widened() const {
    return map([](double x) { return x; });
  }
  Buffer magnitudes() const {
    return map([](double x) { return std::abs(x); });
  }

  // Whether every byte that is no element is as it was.
  bool gaps_are_untouched() const {
    std::vector<bool> is_element(bytes_.size());
    const int64_t size = size_of(dtype());
    for_each([&](int64_t b, int64_t h, int64_t i, int64_t c) {
      const int64_t element =
          b * array_.batch_stride + h * array_.head_stride + i * array_.row_stride + c;
      std::fill_n(is_element.begin() + static_cast<int64_t>(start_) + element * size, size, true);
    });
    for (size_t k = 0; k < bytes_.size(); ++k) {
      if (!is_element[k] && bytes_[k] != std::byte{0xff}) return false;
    }
    return true;
  }

 private:
  Array array_;
  size_t start_ = 0;  // bytes before the first element
  std::vector<std::byte> bytes_;
};

enum class Mask : uint8_t { kNone, kTail, kRandom, kAll };

inline const char* name_of(Mask mask) {
  constexpr const char* kNames[] = {"nomask", "tailmask", "randommask", "allmasked"};
  return kNames[static_cast<int>(mask)];
}

// Which tokens resemble each other.
enum class Tokens : uint8_t { kIid, kClusters, kIdentical };

inline const char* name_of(Tokens tokens) {
  constexpr const char* kNames[] = {"iid", "clusters", "identical"};
  return kNames[static_cast<int>(tokens)];
}

// Masks and offsets of queries or of keys.
class Side {
 public:
  Side() = default;

  // `lengths`: of ragged sequences; empty: padded, [batch, rows].
  Side(int64_t batch, int64_t rows, const std::vector<int64_t>& lengths, Mask mask, uint64_t seed)
      : batch_(batch), rows_(rows) {
    if (!lengths.empty()) {
      offsets_.push_back(0);
      for (int64_t length : lengths) offsets_.push_back(offsets_.back() + length);
    }
    if (mask == Mask::kNone) return;
    // A stride wider than the rows; a byte that is no token is neither true nor looked at.
    stride_ = rows + 2;
    mask_ = std::shared_ptr<bool[]>(new bool[static_cast<size_t>(batch * stride_ + 1)]{});
    Random random(seed, 77);
    for (int64_t b = 0; b < batch; ++b) {
      const int64_t real = mask == Mask::kTail ? random.below(static_cast<uint32_t>(rows) + 1) : 0;
      for (int64_t i = 0; i < rows; ++i) {
        mask_[b * stride_ + i] = mask == Mask::kTail     ? i < real
                                 : mask == Mask::kRandom ? random.below(3) != 0
                                                         : false;
      }
    }
  }

  // Real rows are the first lengths[b] of batch entry b.
  static Side padded(int64_t rows, const std::vector<int64_t>& lengths) {
    Side side(static_cast<int64_t>(lengths.size()), rows, {}, Mask::kAll, 0);
    for (size_t b = 0; b < lengths.size(); ++b) {
      std::fill_n(&side.mask_[static_cast<int64_t>(b) * side.stride_], lengths[b], true);
    }
    return side;
  }

  bool is_real(int64_t b, int64_t i) const { return !mask_ || mask_[b * stride_ + i]; }
  bool is_ragged() const { return !offsets_.empty(); }

  Rows rows() const {
    Rows rows;
    if (is_ragged()) {
      rows.offsets = offsets_.data();
      rows.sequences = static_cast<int64_t>(offsets_.size()) - 1;
    }
    rows.mask = mask_.get();
    rows.mask_stride = stride_;
    return rows;
  }

 private:
  int64_t batch_ = 0, rows_ = 0, stride_ = 0;
  std::vector<int64_t> offsets_;
  std::shared_ptr<bool[]> mask_;
};

// The size of an attention; operators without hashes leave M and T alone.
struct Shape {
  int64_t batch = 1, query_heads = 1, key_heads = 1;
  int64_t queries = 1, keys = 1;       // Nq, Nk; the totals when ragged
  int64_t hashes = 1, bits = 1;        // M, T
  int64_t width = 1, value_width = 1;  // D, V
  Layout layout = Layout::kDense;
  Mask mask = Mask::kNone;
  Tokens tokens = Tokens::kIid;
  std::vector<int64_t> query_lengths = {}, key_lengths = {};  // ragged when not empty

  Side query_side() const { return {batch, queries, query_lengths, mask, 1}; }
  Side key_side() const { return {batch, keys, key_lengths, mask, 2}; }
};

// "B2_Hq4_Hk2_Nq5_Nk7_M3_T2_D8_V9_gaps_tailmask_iid"
inline std::string name_of(const Shape& s) {
  return join("B", s.batch, "_Hq", s.query_heads, "_Hk", s.key_heads, "_Nq", s.queries, "_Nk",
              s.keys, "_M", s.hashes, "_T", s.bits, "_D", s.width, "_V", s.value_width, "_",
              name_of(s.layout), "_", name_of(s.mask), "_", name_of(s.tokens),
              s.query_lengths.empty() ? "" : "_ragged");
}
inline void PrintTo(const Shape& s, std::ostream* out) { *out << name_of(s); }

// For INSTANTIATE_TEST_SUITE_P.
inline std::string shape_name(const ::testing::TestParamInfo<Shape>& info) {
  return name_of(info.param);
}

// Whole numbers from -3 to 3.
inline void fill_whole(Buffer& x, uint64_t seed) {
  Random random(seed, 0);
  x.fill([&](int64_t, int64_t, int64_t, int64_t) { return double(random.below(7)) - 3.0; });
}

// Standard normals; with clusters a row is one of 16 centres and a tenth of noise, identical rows
// are all the first.
inline void fill_normal(Buffer& x, uint64_t seed, Tokens tokens = Tokens::kIid) {
  Random random(seed, 0), cluster(seed, 1);
  const int64_t centres = tokens == Tokens::kClusters ? 16 : 1;
  std::vector<double> centre(static_cast<size_t>(centres * x.cols()));
  for (double& value : centre) value = random.normal();
  int64_t mine = 0;
  x.fill([&](int64_t, int64_t, int64_t, int64_t c) {
    if (c == 0) mine = cluster.below(static_cast<uint32_t>(centres));
    const double common = centre[static_cast<size_t>(mine * x.cols() + c)];
    if (tokens == Tokens::kIdentical) return common;
    return tokens == Tokens::kClusters ? common + 0.1 * random.normal() : random.normal();
  });
}

// Rows of length 1, up to the rounding of the type.
inline void fill_unit(Buffer& x, uint64_t seed, Tokens tokens = Tokens::kIid) {
  Buffer wide(DType::kFloat64, x.batch(), x.heads(), x.rows(), x.cols());
  fill_normal(wide, seed, tokens);
  x.fill([&](int64_t b, int64_t h, int64_t i, int64_t c) {
    const double* row = std::as_const(wide).array().row<double>(b, h, i);
    return row[c] / std::sqrt(std::inner_product(row, row + x.cols(), row, 0.0));
  });
}

// Codes [B, H, M, N] below 2^T; with clusters a token has the codes of one of 16 centres.
inline void fill_codes(Buffer& codes, int64_t bits, uint64_t seed, Tokens tokens = Tokens::kIid) {
  const uint32_t buckets = uint32_t{1} << bits;
  codes.fill([&](int64_t b, int64_t h, int64_t m, int64_t i) {
    const uint64_t group = static_cast<uint64_t>(b * codes.heads() + h);
    Random token(seed, group << 32 | static_cast<uint64_t>(i));
    if (tokens == Tokens::kIid) {
      Random random(seed + 1,
                    (group * 64 + static_cast<uint64_t>(m)) << 32 | static_cast<uint64_t>(i));
      return random.below(buckets);
    }
    const uint64_t centre = tokens == Tokens::kClusters ? token.below(16) : 0;
    // The same for queries and keys, whatever the seed.
    return Random(5, centre * 1024 + static_cast<uint64_t>(m)).below(buckets);
  });
}

// Writes NaN, infinities and huge numbers into the masked rows of x [B, H, N, *].
inline void spoil_masked_rows(Buffer& x, const Side& side) {
  const double kGarbage[] = {std::numeric_limits<double>::quiet_NaN(),
                             std::numeric_limits<double>::infinity(),
                             -std::numeric_limits<double>::infinity(), 60000.0};
  x.for_each([&](int64_t b, int64_t h, int64_t i, int64_t c) {
    if (!side.is_real(b, i)) x.set(b, h, i, c, kGarbage[(i + c) % 4]);
  });
}

// The same for codes [B, H, M, N], which get the largest number of their type, and for scales
// [B, H, 1, N], which get NaN.
inline void spoil_masked_columns(Buffer& x, const Side& side) {
  const double garbage =
      is_floating(x.dtype()) ? std::numeric_limits<double>::quiet_NaN() : 65535.0;
  x.for_each([&](int64_t b, int64_t h, int64_t m, int64_t i) {
    if (!side.is_real(b, i)) x.set(b, h, m, i, garbage);
  });
}

// Copies `count` rows (columns: tokens of codes and scales) of every head.
inline void copy_rows(const Buffer& from, int64_t from_batch, int64_t from_row, Buffer& to,
                      int64_t to_batch, int64_t to_row, int64_t count) {
  for (int64_t h = 0; h < from.heads(); ++h)
    for (int64_t i = 0; i < count; ++i)
      for (int64_t c = 0; c < from.cols(); ++c)
        to.set(to_batch, h, to_row + i, c, from.at(from_batch, h, from_row + i, c));
}
inline void copy_cols(const Buffer& from, int64_t from_batch, int64_t from_col, Buffer& to,
                      int64_t to_batch, int64_t to_col, int64_t count) {
  for (int64_t h = 0; h < from.heads(); ++h)
    for (int64_t m = 0; m < from.rows(); ++m)
      for (int64_t i = 0; i < count; ++i)
        to.set(to_batch, h, m, to_col + i, from.at(from_batch, h, m, from_col + i));
}

// The same rows (columns) as an array of their own.
inline Buffer slice_rows(const Buffer& x, int64_t b, int64_t first, int64_t count) {
  Buffer part(x.dtype(), 1, x.heads(), count, x.cols());
  copy_rows(x, b, first, part, 0, 0, count);
  return part;
}
inline Buffer slice_cols(const Buffer& x, int64_t b, int64_t first, int64_t count) {
  Buffer part(x.dtype(), 1, x.heads(), x.rows(), count);
  copy_cols(x, b, first, part, 0, 0, count);
  return part;
}

// Whether |got - expected| <= bound(b, h, i, c) + the rounding of got's type, for every element.
template <class Bound>
::testing::AssertionResult within(const Buffer& got, const Buffer& expected, Bound&& bound) {
  const double u = unit_roundoff(got.dtype());
  // Half the smallest step of the type.
  const double tiny = got.dtype() == DType::kFloat16   ? 0x1p-25
                      : got.dtype() == DType::kFloat64 ? 0.0
                                                       : 0x1p-134;
  std::string failure;
  int64_t failures = 0;
  got.for_each([&](int64_t b, int64_t h, int64_t i, int64_t c) {
    const double g = got.at(b, h, i, c), e = expected.at(b, h, i, c);
    const double sums = bound(b, h, i, c);
    const double allowed = sums + u * (std::abs(e) + sums) + tiny;
    if (std::abs(g - e) <= allowed) return;  // false for NaN
    if (failures++ > 0) return;
    failure = join("[", b, ",", h, ",", i, ",", c, "] is ", g, ", expected ", e, " +- ", allowed);
  });
  if (failures == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << failure << ", and " << failures - 1 << " more";
}

// As above with bound = factor * magnitude.
inline ::testing::AssertionResult close(const Buffer& got, const Buffer& expected,
                                        const Buffer& magnitude, double factor) {
  return within(got, expected, [&](int64_t b, int64_t h, int64_t i, int64_t c) {
    return factor * magnitude.at(b, h, i, c);
  });
}

// Whether all elements are equal as numbers and none is NaN. For codes, and for the same bits:
// zeros of both signs do not differ here.
inline ::testing::AssertionResult equal(const Buffer& got, const Buffer& expected) {
  std::string failure;
  got.for_each([&](int64_t b, int64_t h, int64_t i, int64_t c) {
    const double g = got.at(b, h, i, c), e = expected.at(b, h, i, c);
    if (g == e || !failure.empty()) return;
    failure = join("[", b, ",", h, ",", i, ",", c, "] is ", g, ", expected ", e);
  });
  if (failure.empty()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << failure;
}

}  // namespace testing
}  // namespace yoso
