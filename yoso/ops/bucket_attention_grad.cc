// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/bucket_attention_grad.h"

#include <vector>

#include "yoso/ops/check_rows.h"
#include "yoso/ops/expected_attention.h"
#include "yoso/ops/reference.h"
#include "yoso/ops/unit_rows.h"

namespace yoso {

void BucketAttentionGrad::check(Offsets allowed) const {
  check_codes(kName, query_codes, key_codes, code_bits);
  check_queries_keys_values(*this, query_codes.batch, query_codes.heads, key_codes.heads,
                            query_codes.cols, key_codes.cols, allowed);
  check_grads(*this);
  if (of_rows) {
    YOSO_CHECK(query_scale.data != nullptr || queries.size() == 0, "query_scale", "absent",
               "a scale, for of_rows");
    YOSO_CHECK(key_scale.data != nullptr || keys.size() == 0, "key_scale", "absent",
               "a scale, for of_rows");
  }
  if (value_grad.data != nullptr) {
    check_floating_like(kName, "value_grad", value_grad, queries, keys.batch, keys.heads, keys.rows,
                        values.cols);
  }
}

BucketAttention BucketAttentionGrad::of_values() const {
  return {.query_codes = key_codes,
          .key_codes = query_codes,
          .values = out_grad,
          .out = value_grad,
          .code_bits = code_bits,
          .query_rows = key_rows,
          .key_rows = query_rows,
          .pairs_up_to = pairs_up_to};
}

namespace {

// From the gradient of the unit row i to that of the row.
void to_gradient_of_row(const ConstArray& x, const ConstArray& scale, int64_t b, int64_t h,
                        int64_t i, double* grad) {
  const double s = reference::value_at(scale, b, h, 0, i);
  double along = 0;
  for (int64_t c = 0; c < x.cols; ++c) {
    along += reference::unit_at(x, scale, b, h, i, c) * grad[c];
  }
  for (int64_t c = 0; c < x.cols; ++c) {
    const double across = grad[c] - along * reference::unit_at(x, scale, b, h, i, c);
    grad[c] = s < static_cast<float>(1 / kUnitRowsEpsilon) ? s * across : 0;
  }
}

}  // namespace

// The definition, quadratic and in double. Never optimise this.
void reference::bucket_attention_grad(const BucketAttentionGrad& a) {
  a.check();
  const int64_t hashes = a.query_codes.rows, width = a.queries.cols;
  const int64_t hq = a.query_codes.heads, hk = a.key_codes.heads;
  for (int64_t b = 0; b < a.query_rows.count(a.queries.batch); ++b) {
    const Sequence q = sequence(a.query_rows, b, a.queries.rows);
    const Sequence k = sequence(a.key_rows, b, a.keys.rows);
    for (int64_t g = 0; g < hk; ++g) {
      std::vector<double> key_sum(static_cast<size_t>(k.rows * width));
      for (int64_t h = g * (hq / hk); h < (g + 1) * (hq / hk); ++h) {
        for (int64_t i = 0; i < q.rows; ++i) {
          std::vector<double> query_sum(static_cast<size_t>(width));
          for (int64_t j = 0; j < k.rows && q.is_real(i); ++j) {
            if (!k.is_real(j)) continue;
            int64_t collisions = 0;
            for (int64_t m = 0; m < hashes; ++m) {
              collisions += code_at(a.query_codes, q.batch, h, m, q.begin + i) ==
                            code_at(a.key_codes, k.batch, g, m, k.begin + j);
            }
            if (collisions == 0) continue;
            double product = 0, x = 0;
            for (int64_t v = 0; v < a.values.cols; ++v) {
              product += value_at(a.out_grad, q.batch, h, q.begin + i, v) *
                         value_at(a.values, k.batch, g, k.begin + j, v);
            }
            for (int64_t c = 0; c < width; ++c) {
              x += unit_at(a.queries, a.query_scale, q.batch, h, q.begin + i, c) *
                   unit_at(a.keys, a.key_scale, k.batch, g, k.begin + j, c);
            }
            const double bits = static_cast<double>(a.code_bits);
            const double slope =
                a.gradient == Gradient::kTrue
                    ? collision_slope(x, bits)
                    : bits / 2 * static_cast<double>(collisions) / static_cast<double>(hashes);
            for (int64_t c = 0; c < width; ++c) {
              query_sum[c] +=
                  slope * product * unit_at(a.keys, a.key_scale, k.batch, g, k.begin + j, c);
              key_sum[j * width + c] +=
                  slope * product * unit_at(a.queries, a.query_scale, q.batch, h, q.begin + i, c);
            }
          }
          if (a.of_rows && q.is_real(i)) {
            to_gradient_of_row(a.queries, a.query_scale, q.batch, h, q.begin + i, query_sum.data());
          }
          for (int64_t c = 0; c < width; ++c) {
            set_value(a.query_grad, q.batch, h, q.begin + i, c, query_sum[c]);
          }
        }
      }
      for (int64_t j = 0; j < k.rows; ++j) {
        if (a.of_rows && k.is_real(j)) {
          to_gradient_of_row(a.keys, a.key_scale, k.batch, g, k.begin + j, &key_sum[j * width]);
        }
        for (int64_t c = 0; c < width; ++c) {
          set_value(a.key_grad, k.batch, g, k.begin + j, c, key_sum[j * width + c]);
        }
      }
    }
  }
  if (a.value_grad.data != nullptr) bucket_attention(a.of_values());
}

}  // namespace yoso
