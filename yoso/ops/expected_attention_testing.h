// What the tests of expected_attention and of its gradients share: inputs and one table of shapes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "yoso/ops/backend_testing.h"
#include "yoso/ops/expected_attention.h"
#include "yoso/ops/expected_attention_grad.h"
#include "yoso/ops/pair_weights_testing.h"
#include "yoso/ops/testing.h"

namespace yoso::testing {

// What kWidest names.
using Widest = std::conditional_t<kWidest == DType::kFloat64, double, float>;

enum class Scales : uint8_t { kAbsent, kPresent };

// Everything that goes in. Among the keys are rows equal to a query, opposite to one, and zero:
// there the weight is 1 or 0, and the slope infinite but for its floor.
struct Inputs {
  Buffer queries, keys, values, out_grad, query_scale, key_scale;
  Side query_side, key_side;

  Inputs() = default;
  Inputs(const Shape& s, DType dtype, Scales scales)
      : queries(dtype, s.batch, s.query_heads, s.queries, s.width, s.layout),
        keys(dtype, s.batch, s.key_heads, s.keys, s.width, s.layout),
        values(dtype, s.batch, s.key_heads, s.keys, s.value_width, s.layout),
        out_grad(dtype, s.batch, s.query_heads, s.queries, s.value_width, s.layout),
        query_side(s.query_side()),
        key_side(s.key_side()) {
    fill_unit(queries, 11, s.tokens);
    fill_unit(keys, 12, s.tokens);
    fill_normal(values, 13);
    fill_normal(out_grad, 14);
    // Small, so that the steepest slope, 70 / (pi sqrt(kSlopeFloor)), leaves gradients within half.
    out_grad.fill(
        [&](int64_t b, int64_t h, int64_t i, int64_t v) { return out_grad.at(b, h, i, v) / 64; });
    keys.fill([&](int64_t b, int64_t g, int64_t j, int64_t c) {
      constexpr double kFactors[] = {1, -1, 0};
      if (s.queries == 0 || j % 5 > 2) return keys.at(b, g, j, c);
      const double query = queries.at(b, g * (s.query_heads / s.key_heads), j % s.queries, c);
      return kFactors[j % 5] * query;
    });
    if (scales == Scales::kPresent) {
      query_scale = stretch(queries);
      key_scale = stretch(keys);
    }
    for (Buffer* x : {&queries, &out_grad}) spoil_masked_rows(*x, query_side);
    for (Buffer* x : {&keys, &values}) spoil_masked_rows(*x, key_side);
    spoil_masked_columns(query_scale, query_side);
    spoil_masked_columns(key_scale, key_side);
  }

  // The same numbers in double.
  Inputs widened() const {
    Inputs wide = *this;
    for (Buffer* x : wide.buffers()) *x = x->widened();
    return wide;
  }

  // One sequence of a ragged batch, alone.
  Inputs sequence(int64_t b) const {
    const Rows q = query_side.rows(), k = key_side.rows();
    const int64_t i = q.offsets[b], num_queries = q.offsets[b + 1] - i;
    const int64_t j = k.offsets[b], num_keys = k.offsets[b + 1] - j;
    Inputs part;
    part.queries = slice_rows(queries, 0, i, num_queries);
    part.out_grad = slice_rows(out_grad, 0, i, num_queries);
    part.query_scale = slice_cols(query_scale, 0, i, num_queries);
    part.keys = slice_rows(keys, 0, j, num_keys);
    part.values = slice_rows(values, 0, j, num_keys);
    part.key_scale = slice_cols(key_scale, 0, j, num_keys);
    return part;
  }

  ExpectedAttention forward(Buffer& out, double code_bits) const {
    return {queries.array(), keys.array(), query_scale.array(), key_scale.array(), values.array(),
            out.array(),     code_bits,    query_side.rows(),   key_side.rows()};
  }

 private:
  std::vector<Buffer*> buffers() {
    return {&queries, &keys, &values, &out_grad, &query_scale, &key_scale};
  }

  // Makes the rows 3 to 6 times as long and returns the scale that undoes it.
  static Buffer stretch(Buffer& x) {
    Buffer scale(accumulator(x.dtype()), x.batch(), x.heads(), 1, x.rows());
    scale.fill([](int64_t, int64_t, int64_t, int64_t i) { return 1.0 / double(3 + i % 4); });
    x.fill([&](int64_t b, int64_t h, int64_t i, int64_t c) {
      return x.at(b, h, i, c) * double(3 + i % 4);
    });
    return scale;
  }
};

// A ragged batch as a padded one, sequence b in batch entry b.
inline Inputs padded(const Inputs& ragged, const std::vector<int64_t>& query_lengths,
                     const std::vector<int64_t>& key_lengths) {
  const auto pad_rows = [](const Buffer& x, const std::vector<int64_t>& lengths, int64_t rows,
                           const Rows& side) {
    Buffer y(x.dtype(), std::ssize(lengths), x.heads(), rows, x.cols());
    for (int64_t b = 0; b < y.batch(); ++b) copy_rows(x, 0, side.offsets[b], y, b, 0, lengths[b]);
    return y;
  };
  const auto pad_columns = [](const Buffer& x, const std::vector<int64_t>& lengths, int64_t rows,
                              const Rows& side) {
    if (x.absent()) return Buffer();
    Buffer y(x.dtype(), std::ssize(lengths), x.heads(), 1, rows);
    for (int64_t b = 0; b < y.batch(); ++b) copy_cols(x, 0, side.offsets[b], y, b, 0, lengths[b]);
    return y;
  };
  const int64_t queries = *std::max_element(query_lengths.begin(), query_lengths.end()) + 3;
  const int64_t keys = *std::max_element(key_lengths.begin(), key_lengths.end()) + 3;
  const Rows q = ragged.query_side.rows(), k = ragged.key_side.rows();
  Inputs y;
  y.queries = pad_rows(ragged.queries, query_lengths, queries, q);
  y.out_grad = pad_rows(ragged.out_grad, query_lengths, queries, q);
  y.query_scale = pad_columns(ragged.query_scale, query_lengths, queries, q);
  y.keys = pad_rows(ragged.keys, key_lengths, keys, k);
  y.values = pad_rows(ragged.values, key_lengths, keys, k);
  y.key_scale = pad_columns(ragged.key_scale, key_lengths, keys, k);
  y.query_side = Side::padded(queries, query_lengths);
  y.key_side = Side::padded(keys, key_lengths);
  return y;
}

// Shapes that break kernels: tails of vectors, tiles and blocks (96), widths around a vector, heads
// that share keys, masks, sequences without rows.
inline std::vector<Shape> expected_attention_shapes() {
  std::vector<Shape> shapes;
  for (const int64_t n : {0, 1, 2, 7, 8, 9, 31, 33, 127, 1023, 1025}) {
    shapes.push_back({.queries = n, .keys = n, .width = 5, .value_width = 3});
  }
  for (const int64_t width : {1, 2, 15, 16, 17, 32, 33, 64, 100, 255, 256}) {
    shapes.push_back({.queries = 11, .keys = 21, .width = width, .value_width = 257 - width});
  }
  shapes.push_back({.queries = 0, .keys = 5, .width = 4, .value_width = 4});
  shapes.push_back({.queries = 5, .keys = 0, .width = 4, .value_width = 4});
  shapes.push_back({.batch = 0, .queries = 5, .keys = 6, .width = 4, .value_width = 4});
  shapes.push_back({.query_heads = 0, .key_heads = 0, .queries = 5, .keys = 6});
  shapes.push_back({.queries = 3, .keys = 65537, .width = 2, .value_width = 1});
  shapes.push_back({.queries = 65537, .keys = 3, .width = 2, .value_width = 1});
  shapes.push_back({.batch = 257, .query_heads = 256, .key_heads = 256, .queries = 1, .keys = 2});
  constexpr std::pair<Layout, Mask> kLayouts[] = {{Layout::kRowsFirst, Mask::kNone},
                                                  {Layout::kGaps, Mask::kNone},
                                                  {Layout::kGaps, Mask::kTail},
                                                  {Layout::kRowsFirst, Mask::kRandom},
                                                  {Layout::kDense, Mask::kAll}};
  for (const auto& [layout, mask] : kLayouts) {
    shapes.push_back({.batch = 2,
                      .query_heads = 4,
                      .key_heads = 2,
                      .queries = 97,
                      .keys = 101,
                      .width = 8,
                      .value_width = 9,
                      .layout = layout,
                      .mask = mask});
  }
  for (const Mask mask : {Mask::kNone, Mask::kRandom}) {
    shapes.push_back({.query_heads = 2,
                      .queries = 210,
                      .keys = 203,
                      .width = 16,
                      .value_width = 20,
                      .mask = mask,
                      .query_lengths = {1, 0, 9, 200},
                      .key_lengths = {0, 7, 96, 100}});
  }
  // Several tiles of the widths that tensor cores take, whole and not, read in place and packed.
  constexpr std::pair<int64_t, int64_t> kWidths[] = {{32, 32}, {64, 64}, {128, 128}, {72, 20}};
  for (const auto& [width, value_width] : kWidths) {
    for (const auto& [layout, mask] :
         {std::pair{Layout::kRowsFirst, Mask::kNone}, std::pair{Layout::kGaps, Mask::kRandom}}) {
      shapes.push_back({.query_heads = 4,
                        .key_heads = 2,
                        .queries = 135,
                        .keys = 150,
                        .width = width,
                        .value_width = value_width,
                        .layout = layout,
                        .mask = mask});
    }
  }
  for (const Tokens tokens : {Tokens::kClusters, Tokens::kIdentical}) {
    shapes.push_back(
        {.queries = 150, .keys = 150, .width = 24, .value_width = 8, .tokens = tokens});
  }
  return shapes;
}

// The powers T to try: the usual one, a few, fractions, and one whose weights underflow. On the CPU
// types of 16 bits differ from float in how rows are read and written, not in the weights; on a GPU
// they have kernels of their own. Long sequences differ from short ones in neither.
inline std::vector<double> powers(const Shape& shape, DType dtype) {
  const int64_t pairs = shape.batch * shape.query_heads * shape.queries * shape.keys;
  if (pairs > 100'000 && dtype != DType::kFloat32 && !kOnGpu) return {};
  if (pairs > 100'000 || (size_of(dtype) == 2 && !kOnGpu)) return {8};
  if (pairs > 10'000) return {8, 7.25};
  if (size_of(dtype) == 2) return {8, 7.25, 5, 0.5};
  return {8, 1, 7.25, 0.5, 70};
}

// Calls f(b, h, g, i, j) for all real pairs; b is the batch entry, i and j count within it.
template <class F>
void for_each_pair(const Inputs& inputs, F&& f) {
  const Rows query_rows = inputs.query_side.rows(), key_rows = inputs.key_side.rows();
  for (int64_t b = 0; b < query_rows.count(inputs.queries.batch()); ++b) {
    const Sequence q = sequence(query_rows, b, inputs.queries.rows());
    const Sequence k = sequence(key_rows, b, inputs.keys.rows());
    for (int64_t h = 0; h < inputs.queries.heads(); ++h) {
      const int64_t g = h / (inputs.queries.heads() / inputs.keys.heads());
      for (int64_t i = 0; i < q.rows; ++i) {
        for (int64_t j = 0; q.is_real(i) && j < k.rows; ++j) {
          if (k.is_real(j)) f(q.batch, h, g, q.begin + i, k.begin + j);
        }
      }
    }
  }
}

// x_ij and its error. Scales are those of `wide`, a widened() input.
struct Cosine {
  double value = 0, error = 0;
};
inline Cosine cosine(const Inputs& wide, double u, int64_t b, int64_t h, int64_t g, int64_t i,
                     int64_t j) {
  const double scale = (wide.query_scale.absent() ? 1.0 : wide.query_scale.at(b, h, 0, i)) *
                       (wide.key_scale.absent() ? 1.0 : wide.key_scale.at(b, g, 0, j));
  const double* q = wide.queries.array().row<double>(b, h, i);
  const double* k = wide.keys.array().row<double>(b, g, j);
  Cosine x;
  for (int64_t c = 0; c < wide.queries.cols(); ++c) {
    x.value += scale * q[c] * k[c];
    x.error += scale * std::abs(q[c] * k[c]);
  }
  x.error *= double(wide.queries.cols() + 3) * u;
  return x;
}

}  // namespace yoso::testing
