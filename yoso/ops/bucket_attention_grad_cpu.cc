// Gradients of queries and keys on the CPU, bucket by bucket. In a bucket of a queries and c keys
// every weight is the same, so the sums factorise (docs/math.md) and there are two orders of work:
//   pairwise  S = G V^T, dQ += S K, dK += S^T Q
//   outer     dQ += G (V^T K), dK += V (G^T Q)
// The rows of a bucket lie anywhere in memory; they are read through pointers, not copied.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>
#include <vector>

#include "yoso/core/check.h"
#include "yoso/cpu/parallel.h"
#include "yoso/cpu/simd.h"
#include "yoso/ops/bucket_attention_grad.h"
#include "yoso/ops/bucket_sort.h"
#include "yoso/ops/packed_rows.h"
#include "yoso/ops/tiles_cpu.h"
#include "yoso/ops/unit_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "yoso/ops/bucket_attention_grad_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "yoso/cpu/transpose-inl.h"

#ifndef YOSO_OPS_BUCKET_ATTENTION_GRAD_CPU_ONCE
#define YOSO_OPS_BUCKET_ATTENTION_GRAD_CPU_ONCE
namespace yoso::cpu {

// Rows of a side taken together: their numbers stay in the first-level cache.
constexpr int64_t kBlock = 64;

// One side of a group. The unit row is scale * x; `cotangent` is what pairs with the other side's
// cotangent in the weight: G for queries, v for keys. Strides in elements, widths whole cache
// lines.
template <class T>
struct GradSide {
  const T* x;
  int64_t x_stride;
  const T* scale;  // null: 1
  const T* cotangent;
  int64_t cotangent_stride;
  T* grad;
  int64_t grad_stride;

  T scale_of(uint32_t row) const { return scale ? scale[row] : T{1}; }
};

template <class T>
struct GradShape {
  int64_t width;            // of x and grad
  int64_t cotangent_width;  // of cotangent
  T weight;                 // of one collision: T / (2 M)
};

// Rows of a side that share a bucket.
struct BucketRows {
  const uint32_t* rows;
  int64_t count;
};

}  // namespace yoso::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace yoso {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Rows and vectors of a register block: 16 sums with AVX-512's 32 registers, 8 with 16.
constexpr int kRegisterRows = 4;
constexpr int kRegisterVectors = HWY_TARGET <= HWY_AVX3 ? 4 : 2;

// Up to so many pairs, a bucket is not worth copies and transposes. Another value is judged by
// bucket_attention_grad_bench --benchmark_filter=surrogate_iid.
constexpr int64_t kFewPairs = 24;

// out[r][column ...] += sum_t coefficients[r][t * step] * rows[t][column ...] for kRows rows r and
// kVectors vectors of columns.
template <int kRows, int kVectors, class T>
HWY_ATTR HWY_INLINE void add_products(const T* const* coefficients, int64_t step,
                                      const T* const* rows, int64_t count, int64_t column,
                                      T* const* out) {
  const hn::ScalableTag<T> d;
  constexpr int64_t kLanes = lanes_of(hn::ScalableTag<T>());
  hn::Vec<decltype(d)> sums[kRows][kVectors];
  const T* coefficient[kRows];
  for (int r = 0; r < kRows; ++r) {
    coefficient[r] = coefficients[r];
    for (int k = 0; k < kVectors; ++k) sums[r][k] = hn::Zero(d);
  }
  for (int64_t t = 0; t < count; ++t) {
    const T* from = rows[t] + column;
    hn::Vec<decltype(d)> v[kVectors];
    for (int k = 0; k < kVectors; ++k) v[k] = hn::LoadU(d, from + k * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const auto c = hn::Set(d, coefficient[r][t * step]);
      for (int k = 0; k < kVectors; ++k) sums[r][k] = hn::MulAdd(c, v[k], sums[r][k]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    T* to = out[r] + column;
    for (int k = 0; k < kVectors; ++k) {
      hn::StoreU(hn::Add(hn::LoadU(d, to + k * kLanes), sums[r][k]), d, to + k * kLanes);
    }
  }
}

template <int kVectors, class T>
HWY_ATTR HWY_INLINE void add_products(int64_t num_rows, const T* const* coefficients, int64_t step,
                                      const T* const* rows, int64_t count, int64_t column,
                                      T* const* out) {
  int64_t r = 0;
  for (; r + kRegisterRows <= num_rows; r += kRegisterRows) {
    add_products<kRegisterRows, kVectors>(coefficients + r, step, rows, count, column, out + r);
  }
  switch (num_rows - r) {
    case 3:
      return add_products<3, kVectors>(coefficients + r, step, rows, count, column, out + r);
    case 2:
      return add_products<2, kVectors>(coefficients + r, step, rows, count, column, out + r);
    case 1:
      return add_products<1, kVectors>(coefficients + r, step, rows, count, column, out + r);
    default:
      return;
  }
}

// The same for any number of rows and all `width` columns.
template <class T>
HWY_ATTR void add_products(int64_t num_rows, const T* const* coefficients, int64_t step,
                           const T* const* rows, int64_t count, int64_t width, T* const* out) {
  constexpr int64_t kLanes = lanes_of(hn::ScalableTag<T>());
  int64_t column = 0;
  for (; column + kRegisterVectors * kLanes <= width; column += kRegisterVectors * kLanes) {
    add_products<kRegisterVectors>(num_rows, coefficients, step, rows, count, column, out);
  }
  for (; column < width; column += kLanes) {
    add_products<1>(num_rows, coefficients, step, rows, count, column, out);
  }
}

// kRows rows of weights[i][j] for kVectors vectors of j, from `columns` [width][column_stride].
template <int kRows, int kVectors, class T>
HWY_ATTR HWY_INLINE void dots_by_column(const T* const* a, const T* columns, int64_t column_stride,
                                        int64_t width, T* weights, int64_t stride) {
  const hn::ScalableTag<T> d;
  constexpr int64_t kLanes = lanes_of(hn::ScalableTag<T>());
  hn::Vec<decltype(d)> sums[kRows][kVectors];
  const T* row[kRows];
  for (int r = 0; r < kRows; ++r) {
    row[r] = a[r];
    for (int k = 0; k < kVectors; ++k) sums[r][k] = hn::Zero(d);
  }
  for (int64_t c = 0; c < width; ++c) {
    hn::Vec<decltype(d)> v[kVectors];
    for (int k = 0; k < kVectors; ++k) {
      v[k] = hn::Load(d, columns + c * column_stride + k * kLanes);
    }
    for (int r = 0; r < kRows; ++r) {
      const auto x = hn::Set(d, row[r][c]);
      for (int k = 0; k < kVectors; ++k) sums[r][k] = hn::MulAdd(x, v[k], sums[r][k]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int k = 0; k < kVectors; ++k) {
      hn::Store(sums[r][k], d, weights + r * stride + k * kLanes);
    }
  }
}

// weights[i][j] = a[i] . b[j] with j in lanes, for which b is transposed into `columns`.
template <class T>
HWY_ATTR void dots_by_column(const T* const* a, int64_t num_a, const T* const* b, int64_t num_b,
                             int64_t width, T* columns, T* weights, int64_t stride) {
  const hn::ScalableTag<T> d;
  constexpr int64_t kLanes = lanes_of(hn::ScalableTag<T>());
  for (int64_t j = 0; j < num_b; j += kLanes) {
    for (int64_t c = 0; c < width; c += kLanes) {
      hn::Vec<decltype(d)> v[kLanes];
      for (int64_t l = 0; l < kLanes; ++l) {
        v[l] = j + l < num_b ? hn::LoadU(d, b[j + l] + c) : hn::Zero(d);
      }
      transpose(d, v);
      for (int64_t l = 0; l < kLanes; ++l) hn::Store(v[l], d, columns + (c + l) * cpu::kBlock + j);
    }
  }
  // Surplus rows and columns are computed from repeated rows and zeros, into places not read.
  for (int64_t i = 0; i < num_a;) {
    constexpr int kMost = 2 * kRegisterRows;
    const T* row[kMost];
    for (int r = 0; r < kMost; ++r) row[r] = a[std::min(i + r, num_a - 1)];
    const bool many = num_a - i > kRegisterRows;
    T* to = weights + i * stride;
    for (int64_t j = 0; j < num_b; j += kLanes) {
      if (many && kRegisterVectors == 4 && j + kLanes < num_b) {
        dots_by_column<kMost, 2>(row, columns + j, cpu::kBlock, width, to + j, stride);
        j += kLanes;
      } else if (many) {
        dots_by_column<kMost, 1>(row, columns + j, cpu::kBlock, width, to + j, stride);
      } else {
        dots_by_column<kRegisterRows, 1>(row, columns + j, cpu::kBlock, width, to + j, stride);
      }
    }
    i += many ? kMost : kRegisterRows;
  }
}

// packed[r] = factor(r) base[rows[r]]: rows that are read again and again should lie on one page.
template <class T, class Factor>
HWY_ATTR HWY_INLINE void pack(const T* base, int64_t stride, const uint32_t* rows, int64_t count,
                              int64_t width, const Factor& factor, T* packed) {
  const hn::ScalableTag<T> d;
  for (int64_t r = 0; r < count; ++r) {
    const T* from = base + static_cast<int64_t>(rows[r]) * stride;
    const auto f = hn::Set(d, factor(rows[r]));
    for (int64_t c = 0; c < width; c += lanes_of(hn::ScalableTag<T>())) {
      hn::Store(hn::Mul(f, hn::LoadU(d, from + c)), d, packed + r * width + c);
    }
  }
}

template <class T>
HWY_ATTR HWY_INLINE void pack_unit_rows(const cpu::GradShape<T>& shape,
                                        const cpu::GradSide<T>& side, const uint32_t* rows,
                                        int64_t count, T* packed) {
  pack(
      side.x, side.x_stride, rows, count, shape.width,
      [&](uint32_t row) { return shape.weight * side.scale_of(row); }, packed);
}

// out[r] = base + rows[r] * stride; without rows, base + r * stride.
template <class Pointer>
HWY_ATTR HWY_INLINE void point_at(Pointer base, int64_t stride, const uint32_t* rows, int64_t count,
                                  Pointer* out) {
  for (int64_t r = 0; r < count; ++r) out[r] = base + (rows ? rows[r] : r) * stride;
}

// a . b over `width` elements, whole cache lines.
template <class T>
HWY_ATTR HWY_INLINE T dot(const T* a, const T* b, int64_t width) {
  const hn::ScalableTag<T> d;
  auto sum = hn::Zero(d);
  for (int64_t c = 0; c < width; c += lanes_of(hn::ScalableTag<T>())) {
    sum = hn::MulAdd(hn::LoadU(d, a + c), hn::LoadU(d, b + c), sum);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// to += factor * from over `width` elements, whole cache lines.
template <class T>
HWY_ATTR HWY_INLINE void add_scaled(T factor, const T* from, int64_t width, T* to) {
  const hn::ScalableTag<T> d;
  const auto f = hn::Set(d, factor);
  for (int64_t c = 0; c < width; c += lanes_of(hn::ScalableTag<T>())) {
    hn::StoreU(hn::MulAdd(f, hn::LoadU(d, from + c), hn::LoadU(d, to + c)), d, to + c);
  }
}

// Adds the gradients of one bucket of so few pairs that nothing is worth preparing.
template <class T>
HWY_ATTR void few_pairs(const cpu::GradShape<T>& shape, const cpu::GradSide<T>& q,
                        const cpu::BucketRows& queries, const cpu::GradSide<T>& k,
                        const cpu::BucketRows& keys) {
  for (int64_t i = 0; i < queries.count; ++i) {
    const int64_t row_q = queries.rows[i];
    for (int64_t j = 0; j < keys.count; ++j) {
      const int64_t row_k = keys.rows[j];
      const T weight =
          shape.weight * dot(q.cotangent + row_q * q.cotangent_stride,
                             k.cotangent + row_k * k.cotangent_stride, shape.cotangent_width);
      add_scaled(weight * k.scale_of(keys.rows[j]), k.x + row_k * k.x_stride, shape.width,
                 q.grad + row_q * q.grad_stride);
      add_scaled(weight * q.scale_of(queries.rows[i]), q.x + row_q * q.x_stride, shape.width,
                 k.grad + row_k * k.grad_stride);
    }
  }
}

// Adds the gradients of one bucket, pair by pair.
template <class T>
HWY_ATTR void pairwise(const cpu::GradShape<T>& shape, const cpu::GradSide<T>& q,
                       const cpu::BucketRows& queries, const cpu::GradSide<T>& k,
                       const cpu::BucketRows& keys) {
  if (queries.count * keys.count <= kFewPairs) return few_pairs(shape, q, queries, k, keys);
  constexpr int64_t kBlock = cpu::kBlock;
  HWY_ALIGN T weights[kBlock * kBlock];
  HWY_ALIGN T columns[256 * kBlock];
  HWY_ALIGN T packed_q[256 * kBlock];
  HWY_ALIGN T packed_k[256 * kBlock];
  const T *x_q[kBlock], *g[kBlock], *x_k[kBlock], *v[kBlock], *by_query[kBlock], *by_key[kBlock];
  T *grad_q[kBlock], *grad_k[kBlock];
  point_at<const T*>(packed_q, shape.width, nullptr, std::min(kBlock, queries.count), x_q);
  point_at<const T*>(weights, kBlock, nullptr, std::min(kBlock, queries.count), by_query);
  point_at<const T*>(packed_k, shape.width, nullptr, std::min(kBlock, keys.count), x_k);
  point_at<const T*>(weights, 1, nullptr, std::min(kBlock, keys.count), by_key);
  for (int64_t j0 = 0; j0 < keys.count; j0 += kBlock) {
    const uint32_t* rows_k = keys.rows + j0;
    const int64_t num_k = std::min(kBlock, keys.count - j0);
    pack_unit_rows(shape, k, rows_k, num_k, packed_k);
    point_at(k.cotangent, k.cotangent_stride, rows_k, num_k, v);
    point_at(k.grad, k.grad_stride, rows_k, num_k, grad_k);
    for (int64_t i0 = 0; i0 < queries.count; i0 += kBlock) {
      const uint32_t* rows_q = queries.rows + i0;
      const int64_t num_q = std::min(kBlock, queries.count - i0);
      pack_unit_rows(shape, q, rows_q, num_q, packed_q);
      point_at(q.cotangent, q.cotangent_stride, rows_q, num_q, g);
      point_at(q.grad, q.grad_stride, rows_q, num_q, grad_q);
      dots_by_column(g, num_q, v, num_k, shape.cotangent_width, columns, weights, kBlock);
      add_products(num_q, by_query, 1, x_k, num_k, shape.width, grad_q);
      add_products(num_k, by_key, kBlock, x_q, num_q, shape.width, grad_k);
    }
  }
}

// product[x][y] += weight sum_r cotangent[r][x] * scale[r] x[r][y], [cotangent_width][width].
template <class T>
HWY_ATTR void sum_outer(const cpu::GradShape<T>& shape, const cpu::GradSide<T>& side,
                        const cpu::BucketRows& bucket, T* product) {
  HWY_ALIGN T cotangent[256 * cpu::kBlock];
  HWY_ALIGN T packed[256 * cpu::kBlock];
  const T *x[cpu::kBlock], *coefficients[256];
  T* out[256];
  point_at<const T*>(packed, shape.width, nullptr, cpu::kBlock, x);
  point_at<const T*>(cotangent, 1, nullptr, shape.cotangent_width, coefficients);
  point_at(product, shape.width, nullptr, shape.cotangent_width, out);
  for (int64_t r0 = 0; r0 < bucket.count; r0 += cpu::kBlock) {
    const int64_t count = std::min(cpu::kBlock, bucket.count - r0);
    const uint32_t* rows = bucket.rows + r0;
    pack_unit_rows(shape, side, rows, count, packed);
    pack(
        side.cotangent, side.cotangent_stride, rows, count, shape.cotangent_width,
        [](uint32_t) { return T{1}; }, cotangent);
    add_products(shape.cotangent_width, coefficients, shape.cotangent_width, x, count, shape.width,
                 out);
  }
}

// grad[r] += sum_x cotangent[r][x] product[x].
template <class T>
HWY_ATTR void apply_outer(const cpu::GradShape<T>& shape, const cpu::GradSide<T>& side,
                          const cpu::BucketRows& bucket, const T* product) {
  const T *cotangent[cpu::kBlock], *from[256];
  T* grad[cpu::kBlock];
  point_at(product, shape.width, nullptr, shape.cotangent_width, from);
  for (int64_t r0 = 0; r0 < bucket.count; r0 += cpu::kBlock) {
    const int64_t count = std::min(cpu::kBlock, bucket.count - r0);
    point_at(side.cotangent, side.cotangent_stride, bucket.rows + r0, count, cotangent);
    point_at(side.grad, side.grad_stride, bucket.rows + r0, count, grad);
    add_products(count, cotangent, 1, from, shape.cotangent_width, shape.width, grad);
  }
}

// Adds to the gradient of `row` of `own` its pairs with `count` rows of `other`, with the true
// slope of the collision probability.
template <class T>
HWY_ATTR void true_slope_row(const cpu::GradShape<T>& shape, T code_bits,
                             const cpu::GradSide<T>& own, uint32_t row,
                             const cpu::GradSide<T>& other, const uint32_t* others, int64_t count) {
  constexpr int64_t kPairs = 16 * cpu::kTileColumns;  // at a time
  const T* x = own.x + static_cast<int64_t>(row) * own.x_stride;
  const T* cotangent = own.cotangent + static_cast<int64_t>(row) * own.cotangent_stride;
  T* grad = own.grad + static_cast<int64_t>(row) * own.grad_stride;
  for (int64_t first = 0; first < count; first += kPairs) {
    const int64_t pairs = std::min(kPairs, count - first);
    const int64_t whole = cpu::round_up(pairs, cpu::kTileColumns);
    T cosines[kPairs], weights[kPairs];
    for (int64_t j = pairs; j < whole; ++j) cosines[j] = weights[j] = 0;
    const T *rows[kPairs], *cotangents[kPairs], *coefficients = weights;
    point_at(other.x, other.x_stride, others + first, pairs, rows);
    point_at(other.cotangent, other.cotangent_stride, others + first, pairs, cotangents);
    for (int64_t j = 0; j < pairs; ++j) {
      const T scale = other.scale_of(others[first + j]);
      cosines[j] = own.scale_of(row) * scale * dot(x, rows[j], shape.width);
      // What is not finite stays so: slopes are of clamped cosines.
      weights[j] = scale * dot(cotangent, cotangents[j], shape.cotangent_width) + 0 * cosines[j];
    }
    cpu::collide(cosines, weights, whole, code_bits, Gradient::kTrue);
    add_products(1, &coefficients, 1, rows, pairs, shape.width, &grad);
  }
}

// HWY_EXPORT takes no templates.
#define YOSO_INSTANTIATE(T)                                                                       \
  void pairwise_##T(const cpu::GradShape<T>& shape, const cpu::GradSide<T>& q,                    \
                    const cpu::BucketRows& queries, const cpu::GradSide<T>& k,                    \
                    const cpu::BucketRows& keys) {                                                \
    pairwise(shape, q, queries, k, keys);                                                         \
  }                                                                                               \
  void sum_outer_##T(const cpu::GradShape<T>& shape, const cpu::GradSide<T>& side,                \
                     const cpu::BucketRows& bucket, T* product) {                                 \
    sum_outer(shape, side, bucket, product);                                                      \
  }                                                                                               \
  void apply_outer_##T(const cpu::GradShape<T>& shape, const cpu::GradSide<T>& side,              \
                       const cpu::BucketRows& bucket, const T* product) {                         \
    apply_outer(shape, side, bucket, product);                                                    \
  }                                                                                               \
  void true_slope_row_##T(const cpu::GradShape<T>& shape, T code_bits,                            \
                          const cpu::GradSide<T>& own, uint32_t row,                              \
                          const cpu::GradSide<T>& other, const uint32_t* others, int64_t count) { \
    true_slope_row(shape, code_bits, own, row, other, others, count);                             \
  }
YOSO_INSTANTIATE(float)
YOSO_INSTANTIATE(double)
#undef YOSO_INSTANTIATE

}  // namespace HWY_NAMESPACE
}  // namespace yoso
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace yoso {

HWY_EXPORT(pairwise_float);
HWY_EXPORT(pairwise_double);
HWY_EXPORT(sum_outer_float);
HWY_EXPORT(sum_outer_double);
HWY_EXPORT(apply_outer_float);
HWY_EXPORT(apply_outer_double);
HWY_EXPORT(true_slope_row_float);
HWY_EXPORT(true_slope_row_double);

namespace cpu {
namespace {

template <class T>
struct Kernels {
  void (*pairwise)(const GradShape<T>&, const GradSide<T>&, const BucketRows&, const GradSide<T>&,
                   const BucketRows&);
  void (*sum_outer)(const GradShape<T>&, const GradSide<T>&, const BucketRows&, T*);
  void (*apply_outer)(const GradShape<T>&, const GradSide<T>&, const BucketRows&, const T*);
  void (*true_slope_row)(const GradShape<T>&, T, const GradSide<T>&, uint32_t, const GradSide<T>&,
                         const uint32_t*, int64_t);
};

template <class T>
Kernels<T> choose_kernels() {
  if constexpr (std::is_same_v<T, float>) {
    return {HWY_DYNAMIC_DISPATCH(pairwise_float), HWY_DYNAMIC_DISPATCH(sum_outer_float),
            HWY_DYNAMIC_DISPATCH(apply_outer_float), HWY_DYNAMIC_DISPATCH(true_slope_row_float)};
  } else {
    return {HWY_DYNAMIC_DISPATCH(pairwise_double), HWY_DYNAMIC_DISPATCH(sum_outer_double),
            HWY_DYNAMIC_DISPATCH(apply_outer_double), HWY_DYNAMIC_DISPATCH(true_slope_row_double)};
  }
}

// Outer products of more rows are summed in parts, each by one thread, and then added up.
constexpr int64_t kRowsPerPart = 4096;

// Rows of a head in and gradients out, in the form that kernels read and write. Gradients collect
// in the output array itself where it has that form.
template <class T>
class Side {
 public:
  Side(const ConstArray& x, const ConstArray& scale, const ConstArray& cotangent, const Array& grad,
       int64_t head, const RealRows& rows)
      : rows_(rows), out_(grad), head_(head), x_(x, head, rows), cotangent_(cotangent, head, rows) {
    side_.x = x_.data();
    side_.x_stride = x_.stride();
    side_.cotangent = cotangent_.data();
    side_.cotangent_stride = cotangent_.stride();
    if (scale.data != nullptr) {
      const T* from = scale.row<T>(rows.batch(), head, 0);
      if (rows.is_run()) {
        side_.scale = from + rows.first();
      } else {
        scale_ = Buffer<T>(rows.count());
        for (int64_t r = 0; r < rows.count(); ++r) scale_[r] = from[rows[r]];
        side_.scale = scale_.data();
      }
    }
    const int64_t width = padded_width<T>(grad.cols);
    in_place_ = is_packed<T>(grad, rows);
    if (in_place_) {
      side_.grad = grad.row<T>(rows.batch(), head, rows.first());
      side_.grad_stride = grad.row_stride;
    } else {
      grad_ = Buffer<T>(rows.count() * width);
      side_.grad = grad_.data();
      side_.grad_stride = width;
    }
    for (int64_t r = 0; r < rows.count(); ++r) {
      std::fill_n(side_.grad + r * side_.grad_stride, width, T{0});
    }
  }

  const GradSide<T>& view() const { return side_; }

  // Gradients are complete: turned into those `of_rows` where that is asked for.
  void write_out(bool of_rows) const {
    if (of_rows) {
      for_row_blocks(rows_.count(), 512, [&](int64_t first, int64_t last) {
        for (int64_t r = first; r < last; ++r) to_gradient_of_row(r);
      });
    }
    if (!in_place_) {
      unpack_rows<T>(grad_.data(), side_.grad_stride, rows_, 0, rows_.count(), out_, head_);
    }
  }

 private:
  // In eight interleaved partial sums, so that the compiler vectorises; rows are whole cache lines.
  void to_gradient_of_row(int64_t r) const {
    const T scale = side_.scale[r];
    const T* x = side_.x + r * side_.x_stride;
    T* grad = side_.grad + r * side_.grad_stride;
    const int64_t width = padded_width<T>(out_.cols);
    T sums[8] = {};
    for (int64_t c = 0; c < width; c += 8) {
      for (int k = 0; k < 8; ++k) sums[k] += x[c + k] * grad[c + k];
    }
    const T along = scale * (((sums[0] + sums[4]) + (sums[1] + sums[5])) +
                             ((sums[2] + sums[6]) + (sums[3] + sums[7])));
    const bool has_direction = scale < static_cast<float>(1 / kUnitRowsEpsilon);
    for (int64_t c = 0; c < width; ++c) {
      grad[c] = has_direction ? scale * (grad[c] - along * (scale * x[c])) : T{0};
    }
  }

  const RealRows& rows_;
  const Array& out_;
  int64_t head_;
  PackedRows<T> x_, cotangent_;
  Buffer<T> scale_, grad_;
  bool in_place_;
  GradSide<T> side_{};
};

// The query heads that share one key head.
template <class T, class Code>
class Group {
 public:
  Group(const BucketAttentionGrad& a, const RealRows& queries, const RealRows& keys, int64_t head)
      : a_(a),
        queries_(queries),
        keys_(keys),
        head_(head),
        hashes_(a.query_codes.rows),
        buckets_(int64_t{1} << a.code_bits),
        shape_{padded_width<T>(a.queries.cols), padded_width<T>(a.values.cols),
               static_cast<T>(a.code_bits) / static_cast<T>(2 * hashes_)},
        kernels_(choose_kernels<T>()) {}

  void run() {
    const Side<T> keys(a_.keys, a_.key_scale, a_.values, a_.key_grad, head_, keys_);
    const PackedCodes<Code> key_codes(a_.key_codes, head_, keys_);
    const int64_t sharing = a_.queries.heads / a_.keys.heads;
    for (int64_t h = head_ * sharing; h < (head_ + 1) * sharing; ++h) {
      const Side<T> queries(a_.queries, a_.query_scale, a_.out_grad, a_.query_grad, h, queries_);
      const PackedCodes<Code> query_codes(a_.query_codes, h, queries_);
      if (a_.gradient == Gradient::kTrue) {
        true_slope(queries.view(), query_codes, queries_, keys.view(), key_codes, keys_);
        true_slope(keys.view(), key_codes, keys_, queries.view(), query_codes, queries_);
      } else {
        for (int64_t m = 0; m < hashes_; ++m) {
          surrogate(queries.view(), query_codes.hash(m), keys.view(), key_codes.hash(m));
        }
      }
      queries.write_out(a_.of_rows);
    }
    keys.write_out(a_.of_rows);
  }

 private:
  // Adds the surrogate gradients of one hash. Buckets share no rows, so they are parallel items.
  void surrogate(const GradSide<T>& q, const Code* query_codes, const GradSide<T>& k,
                 const Code* key_codes) {
    parallel_for(2, [&](int64_t side, int64_t) {
      side == 0 ? query_sort_.sort(query_codes, queries_.count(), buckets_)
                : key_sort_.sort(key_codes, keys_.count(), buckets_);
    });
    const int64_t ranges = std::min(buckets_, 8 * num_threads());
    parallel_for(ranges, [&](int64_t range, int64_t) {
      for (int64_t s = buckets_ * range / ranges; s < buckets_ * (range + 1) / ranges; ++s) {
        const BucketRows queries = bucket(query_sort_, s), keys = bucket(key_sort_, s);
        if (queries.count == 0 || keys.count == 0 || in_parts(queries, keys)) continue;
        if (outer_is_less(queries, keys)) {
          outer(q, queries, k, keys);
        } else {
          kernels_.pairwise(shape_, q, queries, k, keys);
        }
      }
    });
    for (int64_t s = 0; s < buckets_; ++s) {
      const BucketRows queries = bucket(query_sort_, s), keys = bucket(key_sort_, s);
      if (queries.count > 0 && keys.count > 0 && in_parts(queries, keys)) {
        outer(q, queries, k, keys);
      }
    }
  }

  BucketRows bucket(const BucketSort& sort, int64_t s) const {
    return {sort.bucket(s), sort.size(s)};
  }

  // Multiply-adds: pairwise a c (V + 2 D), outer 2 (a + c) V D.
  bool outer_is_less(const BucketRows& queries, const BucketRows& keys) const {
    const double a = static_cast<double>(queries.count), c = static_cast<double>(keys.count);
    const double d = static_cast<double>(shape_.width);
    const double v = static_cast<double>(shape_.cotangent_width);
    return a * c * (v + 2 * d) > 2 * (a + c) * v * d;
  }

  // Buckets that are worth several threads.
  bool in_parts(const BucketRows& queries, const BucketRows& keys) const {
    return std::max(queries.count, keys.count) > kRowsPerPart && outer_is_less(queries, keys);
  }

  // Adds the gradients of one bucket by outer products.
  void outer(const GradSide<T>& q, const BucketRows& queries, const GradSide<T>& k,
             const BucketRows& keys) const {
    const Buffer<T> product(shape_.cotangent_width * shape_.width);
    sum_outer(k, keys, product.data());
    apply_outer(q, queries, product.data());
    sum_outer(q, queries, product.data());
    apply_outer(k, keys, product.data());
  }

  void sum_outer(const GradSide<T>& side, const BucketRows& bucket, T* product) const {
    const int64_t size = shape_.cotangent_width * shape_.width;
    std::fill_n(product, size, T{0});
    if (bucket.count <= kRowsPerPart) {
      kernels_.sum_outer(shape_, side, bucket, product);
      return;
    }
    const int64_t parts = (bucket.count + kRowsPerPart - 1) / kRowsPerPart;
    const Buffer<T> sums(parts * size);
    parallel_for(parts, [&](int64_t part, int64_t) {
      std::fill_n(sums.data() + part * size, size, T{0});
      kernels_.sum_outer(shape_, side, part_of(bucket, part), sums.data() + part * size);
    });
    for (int64_t i = 0; i < parts * size; ++i) product[i % size] += sums[i];
  }

  void apply_outer(const GradSide<T>& side, const BucketRows& bucket, const T* product) const {
    if (bucket.count <= kRowsPerPart) {
      kernels_.apply_outer(shape_, side, bucket, product);
      return;
    }
    parallel_for((bucket.count + kRowsPerPart - 1) / kRowsPerPart, [&](int64_t part, int64_t) {
      kernels_.apply_outer(shape_, side, part_of(bucket, part), product);
    });
  }

  static BucketRows part_of(const BucketRows& bucket, int64_t part) {
    const int64_t first = part * kRowsPerPart;
    return {bucket.rows + first, std::min(kRowsPerPart, bucket.count - first)};
  }

  // Adds the true gradient of the rows of `own`: every row of `other` that shares a bucket counts
  // once. Rows of `own` are independent.
  void true_slope(const GradSide<T>& own, const PackedCodes<Code>& own_codes,
                  const RealRows& own_rows, const GradSide<T>& other,
                  const PackedCodes<Code>& other_codes, const RealRows& other_rows) {
    std::vector<BucketSort> sorts(static_cast<size_t>(hashes_));
    parallel_for(hashes_, [&](int64_t m, int64_t) {
      sorts[static_cast<size_t>(m)].sort(other_codes.hash(m), other_rows.count(), buckets_);
    });
    struct Scratch {
      std::vector<int64_t> met;  // by row of `other`: the last row of `own` that met it, plus one
      std::vector<uint32_t> rows;
    };
    std::vector<Scratch> scratch(static_cast<size_t>(num_threads()));
    parallel_for((own_rows.count() + kBlock - 1) / kBlock, [&](int64_t block, int64_t worker) {
      auto& [met, rows] = scratch[static_cast<size_t>(worker)];
      met.resize(static_cast<size_t>(other_rows.count()));
      const int64_t last = std::min((block + 1) * kBlock, own_rows.count());
      for (int64_t i = block * kBlock; i < last; ++i) {
        rows.clear();
        for (int64_t m = 0; m < hashes_; ++m) {
          const BucketSort& sort = sorts[static_cast<size_t>(m)];
          const int64_t s = own_codes.hash(m)[i];
          for (int64_t t = 0; t < sort.size(s); ++t) {
            const uint32_t j = sort.bucket(s)[t];
            if (met[j] != i + 1) rows.push_back(j);
            met[j] = i + 1;
          }
        }
        kernels_.true_slope_row(shape_, static_cast<T>(a_.code_bits), own, static_cast<uint32_t>(i),
                                other, rows.data(), static_cast<int64_t>(rows.size()));
      }
    });
  }

  const BucketAttentionGrad& a_;
  const RealRows& queries_;
  const RealRows& keys_;
  int64_t head_, hashes_, buckets_;
  GradShape<T> shape_;
  Kernels<T> kernels_;
  BucketSort query_sort_, key_sort_;
};

template <class T, class Code>
void run_groups(const BucketAttentionGrad& a) {
  const auto queries = real_rows(a.query_rows, a.queries.batch, a.queries.rows);
  const auto keys = real_rows(a.key_rows, a.keys.batch, a.keys.rows);
  for_groups(static_cast<int64_t>(keys.size()) * a.keys.heads, [&](int64_t item) {
    const size_t b = static_cast<size_t>(item / a.keys.heads);
    Group<T, Code>(a, queries[b], keys[b], item % a.keys.heads).run();
  });
  for (const RealRows& rows : queries) clear_masked_rows(rows, a.query_grad);
  for (const RealRows& rows : keys) clear_masked_rows(rows, a.key_grad);
}

}  // namespace

void bucket_attention_grad(const BucketAttentionGrad& a) {
  a.check();
  use_simd_level();
  const int64_t most = std::max(a.queries.rows, a.keys.rows);
  if (most > std::numeric_limits<uint32_t>::max()) {
    fail(a.kName, ": rows is ", most, ", expected fewer than 2^32");
  }
  const bool small_codes = a.query_codes.dtype == DType::kUint8;
  if (a.queries.dtype == DType::kFloat64) {
    small_codes ? run_groups<double, uint8_t>(a) : run_groups<double, uint16_t>(a);
  } else {
    small_codes ? run_groups<float, uint8_t>(a) : run_groups<float, uint16_t>(a);
  }
  if (a.value_grad.data != nullptr) bucket_attention(a.of_values());
}

}  // namespace cpu
}  // namespace yoso
#endif  // HWY_ONCE
