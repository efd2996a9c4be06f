// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/expected_attention_grad.h"

#include <cmath>
#include <vector>

#include "yoso/ops/check_rows.h"
#include "yoso/ops/expected_attention.h"
#include "yoso/ops/reference.h"

namespace yoso {

void ExpectedAttentionGrad::check(Offsets allowed) const {
  YOSO_CHECK(code_bits > 0 && std::isfinite(code_bits), "code_bits", code_bits,
             "a finite number above 0");
  check_queries_keys_values(*this, queries.batch, queries.heads, keys.heads, queries.rows,
                            keys.rows, allowed);
  check_grads(*this);
  check_floating_like(kName, "value_grad", value_grad, queries, keys.batch, keys.heads, keys.rows,
                      values.cols);
}

// The definition, in double. Never optimise this.
void reference::expected_attention_grad(const ExpectedAttentionGrad& a) {
  a.check();
  const int64_t width = a.queries.cols, value_width = a.values.cols;
  for (int64_t b = 0; b < a.query_rows.count(a.queries.batch); ++b) {
    const Sequence q = sequence(a.query_rows, b, a.queries.rows);
    const Sequence k = sequence(a.key_rows, b, a.keys.rows);
    for (int64_t g = 0; g < a.keys.heads; ++g) {
      const int64_t shared = a.queries.heads / a.keys.heads;
      std::vector<double> key_sum(static_cast<size_t>(k.rows * width));
      std::vector<double> value_sum(static_cast<size_t>(k.rows * value_width));
      for (int64_t h = g * shared; h < (g + 1) * shared; ++h) {
        for (int64_t i = 0; i < q.rows; ++i) {
          std::vector<double> query_sum(static_cast<size_t>(width));
          for (int64_t j = 0; j < k.rows && q.is_real(i); ++j) {
            if (!k.is_real(j)) continue;
            double x = 0, product = 0;
            for (int64_t c = 0; c < width; ++c) {
              x += unit_at(a.queries, a.query_scale, q.batch, h, q.begin + i, c) *
                   unit_at(a.keys, a.key_scale, k.batch, g, k.begin + j, c);
            }
            const double weight = collision_probability(x, a.code_bits);
            for (int64_t v = 0; v < value_width; ++v) {
              const double out_grad = value_at(a.out_grad, q.batch, h, q.begin + i, v);
              product += out_grad * value_at(a.values, k.batch, g, k.begin + j, v);
              value_sum[j * value_width + v] += weight * out_grad;
            }
            const double slope = a.gradient == Gradient::kTrue ? collision_slope(x, a.code_bits)
                                                               : a.code_bits / 2 * weight;
            for (int64_t c = 0; c < width; ++c) {
              query_sum[c] +=
                  slope * product * unit_at(a.keys, a.key_scale, k.batch, g, k.begin + j, c);
              key_sum[j * width + c] +=
                  slope * product * unit_at(a.queries, a.query_scale, q.batch, h, q.begin + i, c);
            }
          }
          for (int64_t c = 0; c < width; ++c) {
            set_value(a.query_grad, q.batch, h, q.begin + i, c, query_sum[c]);
          }
        }
      }
      for (int64_t j = 0; j < k.rows; ++j) {
        for (int64_t c = 0; c < width; ++c) {
          set_value(a.key_grad, k.batch, g, k.begin + j, c, key_sum[j * width + c]);
        }
        for (int64_t v = 0; v < value_width; ++v) {
          set_value(a.value_grad, k.batch, g, k.begin + j, v, value_sum[j * value_width + v]);
        }
      }
    }
  }
}

}  // namespace yoso
