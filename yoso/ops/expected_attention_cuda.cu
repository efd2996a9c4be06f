// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/expected_attention.h"
#include "yoso/ops/pair_sums.h"

namespace yoso::cuda {

void expected_attention(const ExpectedAttention& a, Stream& stream) {
  a.check();
  constexpr const char* kName = ExpectedAttention::kName;
  with_gpu_type(kName, "queries", a.queries.dtype, [&]<class>() {});
  const Stream::Scope scope(stream);
  const GpuSide query_side(a.query_rows, a.queries.batch, a.queries.rows, stream);
  const GpuSide key_side(a.key_rows, a.keys.batch, a.keys.rows, stream);
  PairSums sums{.fixed = pair_side(kName, query_side, a.queries, a.query_scale, {}, stream),
                .moving = pair_side(kName, key_side, a.keys, a.key_scale, a.values, stream),
                .tiles = query_side.tiles(kPairTile),
                .weight = {a.code_bits, Gradient::kSurrogate},
                .out = a.out};
  clear_masked_rows(kName, sums.fixed, a.out, stream);
  sum_all_pairs<Sum::kValues>(kName, sums, stream);
}

}  // namespace yoso::cuda
