// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/expected_attention.h"
#include "yoso/ops/pair_sums_wgmma.h"

namespace yoso::cuda {

void expected_attention(const ExpectedAttention& a, Stream& stream) {
  a.check(Offsets::kAnywhere);
  constexpr const char* kName = ExpectedAttention::kName;
  const Stream::Scope scope(stream);
  check_offsets_on_gpu(kName, a.query_rows, a.queries.rows, a.key_rows, a.keys.rows, stream);
  const GpuSide query_side(a.query_rows, a.queries.batch, a.queries.rows, stream);
  const GpuSide key_side(a.key_rows, a.keys.batch, a.keys.rows, stream);
  with_gpu_type(kName, "queries", a.queries.dtype, [&]<class T>() {
    PairSums sums{.fixed = pair_side(kName, query_side, a.queries, a.query_scale, {}, stream),
                  .moving = pair_side(kName, key_side, a.keys, a.key_scale, a.values, stream),
                  .weight = {a.code_bits, Gradient::kSurrogate},
                  .values_out = a.out};
    clear_masked_rows(kName, sums.fixed, a.out, stream);
    clear_rows_after(kName, a.query_rows, a.out, stream);
    if constexpr (sizeof(T) == 2) {
      if (fits_tensor_cores(a.queries, a.values)) {
        for (ConstArray* x : {&sums.fixed.rows, &sums.moving.rows, &sums.moving.values}) {
          pack_where_needed<T>(kName, *x, stream);
        }
        return sum_all_pairs_on_tensor_cores<Sum::kValues>(kName, sums, query_side, stream);
      }
    }
    sums.tiles = query_side.tiles(kPairTile);
    sum_all_pairs<Sum::kValues>(kName, sums, stream);
  });
}

}  // namespace yoso::cuda
