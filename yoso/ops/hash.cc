// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/hash.h"

#include <bit>

#include "yoso/core/check.h"
#include "yoso/ops/check_rows.h"
#include "yoso/ops/projection_number.h"

namespace yoso {

int64_t ProjectionShape::padded_width() const {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max(width, code_bits))));
}

int64_t ProjectionShape::codes_per_part() const { return padded_width() / code_bits; }

int64_t ProjectionShape::parts() const {
  return (num_hashes + codes_per_part() - 1) / codes_per_part();
}

int64_t ProjectionShape::numbers_per_head() const {
  return projection == Projection::kHadamard ? parts() * 3 * padded_width()
                                             : num_hashes * code_bits * width;
}

std::vector<float> draw_projections(const ProjectionShape& shape, int64_t heads, uint64_t seed) {
  const int64_t count = shape.numbers_per_head();
  std::vector<float> numbers(static_cast<size_t>(heads * count));
  for (int64_t h = 0; h < heads; ++h) {
    float* out = numbers.data() + h * count;
    for (int64_t i = 0; i < count; ++i) {
      out[i] = projection_number(shape.projection, seed, static_cast<uint64_t>(h), i);
    }
  }
  return numbers;
}

DType code_dtype(int64_t code_bits) { return code_bits <= 8 ? DType::kUint8 : DType::kUint16; }

ProjectionShape Hash::shape() const { return {projection, x.cols, codes.rows, code_bits}; }

void Hash::check() const {
  YOSO_CHECK_RANGE(code_bits, 1, 16);
  check_width(kName, "x", x.cols);
  check_floating(kName, "x", x, x.batch, x.heads, x.rows, x.cols);
  YOSO_CHECK(codes.dtype == code_dtype(code_bits), "codes", name_of(codes.dtype),
             name_of(code_dtype(code_bits)));
  YOSO_CHECK_EQ(codes.batch, x.batch);
  YOSO_CHECK_EQ(codes.heads, x.heads);
  YOSO_CHECK_EQ(codes.cols, x.rows);
  YOSO_CHECK(codes.rows >= 1, "codes.rows (hashes)", codes.rows, "at least 1");
  check_present(kName, "codes", codes);
  YOSO_CHECK(projection_heads >= 1 && x.heads % projection_heads == 0, "projection_heads",
             projection_heads, join("a divisor of x.heads = ", x.heads));
  YOSO_CHECK(projections != nullptr, "projections", "null", "draw_projections() of this shape");
}

namespace {

// P x for one row and head, in double: [M * T] numbers in the order of the codes' bits.
void project(const ProjectionShape& shape, const double* x, const float* numbers, double* out) {
  const int64_t bits = shape.num_hashes * shape.code_bits;
  if (shape.projection == Projection::kGaussian) {
    for (int64_t r = 0; r < bits; ++r) {
      out[r] = 0;
      for (int64_t c = 0; c < shape.width; ++c) out[r] += numbers[r * shape.width + c] * x[c];
    }
    return;
  }
  const int64_t d = shape.padded_width();
  std::vector<double> y(static_cast<size_t>(d));
  for (int64_t part = 0; part < shape.parts(); ++part) {
    for (int64_t c = 0; c < d; ++c) y[c] = c < shape.width ? x[c] : 0.0;
    for (int64_t round = 0; round < 3; ++round) {
      for (int64_t c = 0; c < d; ++c) y[c] *= numbers[(part * 3 + round) * d + c];
      for (int64_t stride = d / 2; stride >= 1; stride /= 2) {
        for (int64_t c = 0; c < d; ++c) {
          if (c & stride) continue;
          const double a = y[c], b = y[c + stride];
          y[c] = a + b;
          y[c + stride] = a - b;
        }
      }
    }
    const int64_t first = part * shape.codes_per_part() * shape.code_bits;
    for (int64_t r = 0; r < shape.codes_per_part() * shape.code_bits && first + r < bits; ++r) {
      out[first + r] = y[r];
    }
  }
}

}  // namespace

// The definition, one row at a time and in double. Never optimise this.
void reference::hash(const Hash& a) {
  a.check();
  const ProjectionShape shape = a.shape();
  std::vector<double> x(static_cast<size_t>(shape.width));
  std::vector<double> y(static_cast<size_t>(shape.num_hashes * shape.code_bits));
  with_float_type(a.x.dtype, [&]<class T>() {
    for (int64_t b = 0; b < a.x.batch; ++b) {
      for (int64_t h = 0; h < a.x.heads; ++h) {
        const int64_t drawn = h / (a.x.heads / a.projection_heads);
        const float* numbers = a.projections + drawn * shape.numbers_per_head();
        for (int64_t i = 0; i < a.x.rows; ++i) {
          const T* row = a.x.row<T>(b, h, i);
          for (int64_t c = 0; c < shape.width; ++c) x[c] = to_float(row[c]);
          project(shape, x.data(), numbers, y.data());
          for (int64_t m = 0; m < shape.num_hashes; ++m) {
            uint32_t code = 0;
            for (int64_t t = 0; t < a.code_bits; ++t) {
              code |= uint32_t{y[m * a.code_bits + t] > 0} << t;
            }
            if (a.codes.dtype == DType::kUint8) {
              a.codes.row<uint8_t>(b, h, m)[i] = static_cast<uint8_t>(code);
            } else {
              a.codes.row<uint16_t>(b, h, m)[i] = static_cast<uint16_t>(code);
            }
          }
        }
      }
    }
  });
}

}  // namespace yoso
