// Rows as CPU kernels want them: one after the other, numbers of the accumulation type, padded with
// zeros to a multiple of 64 bytes. Where the array already looks like that, nothing is copied. A
// head of [B, N, H, D] does not: its rows lie on as many pages as there are rows and fall into few
// sets of the cache, so rows that are read often are worth a copy.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>

#include "yoso/core/array.h"
#include "yoso/cpu/parallel.h"
#include "yoso/ops/real_rows.h"

namespace yoso::cpu {

// Scratch memory on cache-line boundaries; not initialised.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size)
      : data_(static_cast<T*>(::operator new(static_cast<size_t>(size) * sizeof(T), kAlignment))) {}

  T* data() const { return data_.get(); }
  T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(T* p) const { ::operator delete(p, kAlignment); }
  };
  std::unique_ptr<T, Free> data_;
};

// Width of a padded row of `width` numbers of type T.
template <class T>
constexpr int64_t padded_width(int64_t width) {
  constexpr int64_t kInLine = 64 / sizeof(T);
  return (width + kInLine - 1) / kInLine * kInLine;
}

// Calls body(first, last) for blocks of rows, possibly at once.
template <class Body>
void for_row_blocks(int64_t rows, int64_t rows_per_block, const Body& body) {
  parallel_for((rows + rows_per_block - 1) / rows_per_block, [&](int64_t block, int64_t) {
    body(block * rows_per_block, std::min((block + 1) * rows_per_block, rows));
  });
}

// Whether the real rows of a head lie one after the other as T.
template <class T>
bool is_packed(const ConstArray& array, const RealRows& rows) {
  return array.dtype == DTypeOf<T>::value && array.cols == padded_width<T>(array.cols) &&
         array.row_stride == array.cols && rows.is_run();
}

// The real rows of one head of `array`, readable as T: [count][stride].
template <class T>
class PackedRows {
 public:
  PackedRows(const ConstArray& array, int64_t head, const RealRows& rows)
      : stride_(padded_width<T>(array.cols)) {
    if (is_packed<T>(array, rows)) {
      data_ = array.row<T>(rows.batch(), head, rows.first());
      return;
    }
    buffer_ = Buffer<T>(rows.count() * stride_);
    data_ = buffer_.data();
    for_row_blocks(rows.count(), 1024, [&](int64_t first, int64_t last) {
      T* to = buffer_.data() + first * stride_;
      pack_rows<T>(array, {}, head, rows, first, last - first, to, stride_);
      for (int64_t r = first; r < last; ++r, to += stride_) {
        std::fill(to + array.cols, to + stride_, T{0});
      }
    });
  }

  const T* data() const { return data_; }
  int64_t stride() const { return stride_; }

 private:
  Buffer<T> buffer_;
  const T* data_ = nullptr;
  int64_t stride_;
};

// The codes of the real rows of one head, a run of them for every hash.
template <class Code>
class PackedCodes {
 public:
  PackedCodes(const ConstArray& codes, int64_t head, const RealRows& rows)
      : stride_(codes.row_stride), data_(codes.row<Code>(rows.batch(), head, 0)) {
    if (rows.is_run()) {
      data_ += rows.first();
      return;
    }
    buffer_ = Buffer<Code>(codes.rows * rows.count());
    for (int64_t m = 0; m < codes.rows; ++m) {
      for (int64_t r = 0; r < rows.count(); ++r) {
        buffer_[m * rows.count() + r] = data_[m * stride_ + rows[r]];
      }
    }
    data_ = buffer_.data();
    stride_ = rows.count();
  }

  const Code* hash(int64_t m) const { return data_ + m * stride_; }

 private:
  Buffer<Code> buffer_;
  int64_t stride_;
  const Code* data_;
};

}  // namespace yoso::cpu
