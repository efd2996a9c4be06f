// The real rows of one side of one sequence, and their way into and out of dense buffers of the
// accumulation type (float, or double for double arrays). Masked rows are never read.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "yoso/core/array.h"

namespace yoso::cpu {

class RealRows {
 public:
  // `rows` is the row extent of the side's arrays.
  RealRows(const Rows& side, int64_t b, int64_t rows)
      : sequence_(sequence(side, b, rows)), first_(0), count_(sequence_.rows) {
    if (sequence_.mask == nullptr) return;
    for (int64_t i = 0; i < sequence_.rows; ++i) {
      if (sequence_.mask[i]) real_.push_back(i);
    }
    count_ = static_cast<int64_t>(real_.size());
    first_ = real_.empty() ? 0 : real_.front();
    // A sequence with padding is a run; it needs no list.
    if (real_.empty() || real_.back() - first_ + 1 == count_) real_ = {};
  }

  int64_t batch() const { return sequence_.batch; }
  int64_t count() const { return count_; }
  // Whether the real rows follow each other: then they are rows first() to first() + count() - 1.
  bool is_run() const { return real_.empty(); }
  int64_t first() const { return sequence_.begin + first_; }
  // Where real row r stands in the side's arrays.
  int64_t operator[](int64_t r) const {
    return is_run() ? first() + r : sequence_.begin + real_[static_cast<size_t>(r)];
  }
  const Sequence& all() const { return sequence_; }

 private:
  Sequence sequence_;
  int64_t first_, count_;
  std::vector<int64_t> real_;  // empty for a run
};

// The real rows of every sequence of a side.
inline std::vector<RealRows> real_rows(const Rows& side, int64_t batch, int64_t rows) {
  std::vector<RealRows> all;
  for (int64_t b = 0; b < side.count(batch); ++b) all.emplace_back(side, b, rows);
  return all;
}

// packed[r][c] = scale * x[rows[first + r]][c] for r < count; rows of `packed` are `stride` apart.
template <class Acc>
void pack_rows(const ConstArray& x, const ConstArray& scale, int64_t h, const RealRows& rows,
               int64_t first, int64_t count, Acc* packed, int64_t stride) {
  with_float_type(x.dtype, [&]<class T>() {
    if constexpr (std::is_same_v<T, double> == std::is_same_v<Acc, double>) {
      for (int64_t r = 0; r < count; ++r) {
        const int64_t i = rows[first + r];
        const T* row = x.row<T>(rows.batch(), h, i);
        const Acc factor = scale.data ? scale.row<Acc>(rows.batch(), h, 0)[i] : Acc{1};
        for (int64_t c = 0; c < x.cols; ++c) packed[r * stride + c] = factor * to_float(row[c]);
      }
    }
  });
}

// The way back, without a scale: out[rows[first + r]][c] = packed[r][c].
template <class Acc>
void unpack_rows(const Acc* packed, int64_t stride, const RealRows& rows, int64_t first,
                 int64_t count, const Array& out, int64_t h) {
  with_float_type(out.dtype, [&]<class T>() {
    if constexpr (std::is_same_v<T, double> == std::is_same_v<Acc, double>) {
      for (int64_t r = 0; r < count; ++r) {
        T* row = out.row<T>(rows.batch(), h, rows[first + r]);
        for (int64_t c = 0; c < out.cols; ++c) row[c] = from_float<T>(packed[r * stride + c]);
      }
    }
  });
}

// Zeroes the masked rows of a sequence in every head of `out`.
inline void clear_masked_rows(const RealRows& rows, const Array& out) {
  if (rows.all().mask == nullptr) return;
  with_float_type(out.dtype, [&]<class T>() {
    for (int64_t h = 0; h < out.heads; ++h) {
      for (int64_t i = 0; i < rows.all().rows; ++i) {
        if (rows.all().is_real(i)) continue;
        std::fill_n(out.row<T>(rows.batch(), h, rows.all().begin + i), out.cols, T{});
      }
    }
  });
}

}  // namespace yoso::cpu
