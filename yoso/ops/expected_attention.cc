// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/expected_attention.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "yoso/ops/bucket_attention_grad.h"
#include "yoso/ops/check_rows.h"
#include "yoso/ops/reference.h"

namespace yoso {

void ExpectedAttention::check(Offsets allowed) const {
  YOSO_CHECK(code_bits > 0 && std::isfinite(code_bits), "code_bits", code_bits,
             "a finite number above 0");
  check_queries_keys_values(*this, queries.batch, queries.heads, keys.heads, queries.rows,
                            keys.rows, allowed);
  check_floating_like(kName, "out", out, queries, queries.batch, queries.heads, queries.rows,
                      values.cols);
}

double reference::collision_probability(double x, double code_bits) {
  // 1 - acos(x)/pi, without cancellation near x = -1.
  const double one_bit = std::acos(std::clamp(-x, -1.0, 1.0)) / std::numbers::pi;
  return std::pow(one_bit, code_bits);
}

double reference::collision_slope(double x, double code_bits) {
  x = std::clamp(x, -1.0, 1.0);
  const double sine = std::sqrt(std::max(1 - x * x, kSlopeFloor));
  const double one_bit = std::max(std::acos(-x), std::sqrt(kSlopeFloor)) / std::numbers::pi;
  return code_bits * std::pow(one_bit, code_bits - 1) / (std::numbers::pi * sine);
}

// The definition, in double. Never optimise this.
void reference::expected_attention(const ExpectedAttention& a) {
  a.check();
  std::vector<double> sum(static_cast<size_t>(a.values.cols));
  for (int64_t b = 0; b < a.query_rows.count(a.queries.batch); ++b) {
    const Sequence q = sequence(a.query_rows, b, a.queries.rows);
    const Sequence k = sequence(a.key_rows, b, a.keys.rows);
    for (int64_t h = 0; h < a.queries.heads; ++h) {
      const int64_t g = h / (a.queries.heads / a.keys.heads);
      for (int64_t i = 0; i < q.rows; ++i) {
        std::fill(sum.begin(), sum.end(), 0.0);
        for (int64_t j = 0; j < k.rows && q.is_real(i); ++j) {
          if (!k.is_real(j)) continue;
          double x = 0;
          for (int64_t c = 0; c < a.queries.cols; ++c) {
            x += unit_at(a.queries, a.query_scale, q.batch, h, q.begin + i, c) *
                 unit_at(a.keys, a.key_scale, k.batch, g, k.begin + j, c);
          }
          const double weight = collision_probability(x, a.code_bits);
          for (int64_t v = 0; v < a.values.cols; ++v) {
            sum[v] += weight * value_at(a.values, k.batch, g, k.begin + j, v);
          }
        }
        for (int64_t v = 0; v < a.values.cols; ++v) {
          set_value(a.out, q.batch, h, q.begin + i, v, sum[v]);
        }
      }
    }
  }
}

}  // namespace yoso
