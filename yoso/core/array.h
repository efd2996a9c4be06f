// Arrays as operators see them: pointer, element type, extents and strides of [B, H, rows, cols].
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "yoso/core/dtype.h"

namespace yoso {

// A [batch, heads, rows, cols] array that someone else owns. Strides count elements and may be
// anything (a [B, N, H, D] projection is read without a copy); the last dimension is contiguous.
template <class Void>
struct BasicArray {
  Void* data = nullptr;  // on the device that runs the operator; null: the array is absent
  DType dtype = DType::kFloat32;
  int64_t batch = 0, heads = 0, rows = 0, cols = 0;
  int64_t batch_stride = 0, head_stride = 0, row_stride = 0;

  template <class T>
  constexpr auto* row(int64_t b, int64_t h, int64_t i) const {
    using Pointer = std::conditional_t<std::is_const_v<Void>, const T, T>;
    return static_cast<Pointer*>(data) + b * batch_stride + h * head_stride + i * row_stride;
  }

  constexpr int64_t size() const { return batch * heads * rows * cols; }

  operator BasicArray<const void>() const requires(!std::is_const_v<Void>) {
    return {data, dtype, batch, heads, rows, cols, batch_stride, head_stride, row_stride};
  }
};

using Array = BasicArray<void>;
using ConstArray = BasicArray<const void>;

// The array whose elements follow each other without gaps.
template <class T>
auto dense(T* data, int64_t batch, int64_t heads, int64_t rows, int64_t cols) {
  using Void = std::conditional_t<std::is_const_v<T>, const void, void>;
  return BasicArray<Void>{data,
                          DTypeOf<std::remove_const_t<T>>::value,
                          batch,
                          heads,
                          rows,
                          cols,
                          heads * rows * cols,
                          rows * cols,
                          cols};
}

// Which rows of one side (queries or keys) are real.
//
// Padded: offsets is null and arrays are [sequences, H, N, *]. Ragged: arrays are
// [1, H, total, *] and sequence b owns rows offsets[b] to offsets[b + 1] - 1. A mask may stand on
// either; the content of masked rows is never looked at. Offsets that stand on a GPU, which nobody
// waits for, may end before total: rows that follow are masked.
struct Rows {
  const int64_t* offsets = nullptr;  // [sequences + 1], from 0 to total, never decreasing
  int64_t sequences = 0;             // read only with offsets
  int64_t longest = 0;         // more than 0: offsets are on the GPU, and no sequence has more rows
  const bool* mask = nullptr;  // [batch, rows], true: real; null: all rows are real
  int64_t mask_stride = 0;     // elements from one batch entry of the mask to the next

  constexpr int64_t count(int64_t batch) const { return offsets ? sequences : batch; }
};

// Where an operator takes the offsets of ragged sequences from.
enum class Offsets : uint8_t { kOnHost, kAnywhere };

// The rows of one sequence: batch entry, first row, number of rows, and its mask or null.
struct Sequence {
  int64_t batch, begin, rows;
  const bool* mask;

  constexpr bool is_real(int64_t i) const { return mask == nullptr || mask[i]; }
};

// `rows` is the row extent of the side's arrays.
constexpr Sequence sequence(const Rows& side, int64_t b, int64_t rows) {
  const int64_t batch = side.offsets ? 0 : b;
  const int64_t begin = side.offsets ? side.offsets[b] : 0;
  const int64_t count = side.offsets ? side.offsets[b + 1] - begin : rows;
  return {batch, begin, count, side.mask ? side.mask + batch * side.mask_stride + begin : nullptr};
}

}  // namespace yoso
