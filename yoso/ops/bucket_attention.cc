// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/bucket_attention.h"

#include <algorithm>
#include <vector>

#include "yoso/ops/check_rows.h"
#include "yoso/ops/reference.h"

namespace yoso {

void BucketAttention::check(Offsets allowed) const {
  check_codes(kName, query_codes, key_codes, code_bits);
  const int64_t hq = query_codes.heads, hk = key_codes.heads;
  const bool divides = hq == 0 || hk == 0 ? hq == hk : hq % hk == 0 || hk % hq == 0;
  YOSO_CHECK(divides, "query_codes.heads", hq,
             join("a multiple or a divisor of key_codes.heads = ", hk));
  check_width(kName, "values", values.cols);
  check_floating(kName, "values", values, key_codes.batch, hk, key_codes.cols, values.cols);
  check_floating_like(kName, "out", out, values, query_codes.batch, hq, query_codes.cols,
                      values.cols);
  check_sides(kName, query_rows, key_rows, query_codes.batch, query_codes.cols, key_codes.cols,
              allowed);
}

// The definition, quadratic and in double. Never optimise this.
void reference::bucket_attention(const BucketAttention& a) {
  a.check();
  const int64_t hashes = a.query_codes.rows, hq = a.query_codes.heads, hk = a.key_codes.heads;
  std::vector<double> sum(static_cast<size_t>(a.values.cols));
  for (int64_t b = 0; b < a.query_rows.count(a.out.batch); ++b) {
    const Sequence q = sequence(a.query_rows, b, a.out.rows);
    const Sequence k = sequence(a.key_rows, b, a.values.rows);
    for (int64_t h = 0; h < hq; ++h) {
      const int64_t first = h * hk / hq, last = std::max((h + 1) * hk / hq, first + 1);
      for (int64_t i = 0; i < q.rows; ++i) {
        std::fill(sum.begin(), sum.end(), 0.0);
        for (int64_t g = first; g < last && q.is_real(i); ++g) {
          for (int64_t j = 0; j < k.rows; ++j) {
            if (!k.is_real(j)) continue;
            int64_t collisions = 0;
            for (int64_t m = 0; m < hashes; ++m) {
              collisions += code_at(a.query_codes, q.batch, h, m, q.begin + i) ==
                            code_at(a.key_codes, k.batch, g, m, k.begin + j);
            }
            if (collisions == 0) continue;
            for (int64_t v = 0; v < a.values.cols; ++v) {
              sum[v] +=
                  static_cast<double>(collisions) * value_at(a.values, k.batch, g, k.begin + j, v);
            }
          }
        }
        for (int64_t v = 0; v < a.values.cols; ++v) {
          set_value(a.out, q.batch, h, q.begin + i, v, sum[v] / static_cast<double>(hashes));
        }
      }
    }
  }
}

}  // namespace yoso
