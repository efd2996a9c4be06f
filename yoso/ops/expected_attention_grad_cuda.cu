// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/expected_attention_grad.h"
#include "yoso/ops/pair_sums_wgmma.h"

namespace yoso::cuda {

void expected_attention_grad(const ExpectedAttentionGrad& a, Stream& stream) {
  a.check(Offsets::kAnywhere);
  constexpr const char* kName = ExpectedAttentionGrad::kName;
  const Stream::Scope scope(stream);
  check_offsets_on_gpu(kName, a.query_rows, a.queries.rows, a.key_rows, a.keys.rows, stream);
  const GpuSide query_side(a.query_rows, a.queries.batch, a.queries.rows, stream);
  const GpuSide key_side(a.key_rows, a.keys.batch, a.keys.rows, stream);
  with_gpu_type(kName, "queries", a.queries.dtype, [&]<class T>() {
    PairSide queries = pair_side(kName, query_side, a.queries, a.query_scale, a.out_grad, stream);
    PairSide keys = pair_side(kName, key_side, a.keys, a.key_scale, a.values, stream);
    clear_masked_rows(kName, queries, a.query_grad, stream);
    clear_masked_rows(kName, keys, a.key_grad, stream);
    clear_masked_rows(kName, keys, a.value_grad, stream);
    clear_rows_after(kName, a.query_rows, a.query_grad, stream);
    for (const Array& grad : {a.key_grad, a.value_grad}) {
      clear_rows_after(kName, a.key_rows, grad, stream);
    }
    // One side at a time is fixed: two passes over all pairs, and no sum that blocks share.
    PairSums by_query{.fixed = queries,
                      .moving = keys,
                      .weight = {a.code_bits, a.gradient},
                      .rows_out = a.query_grad};
    PairSums by_key{.fixed = keys,
                    .moving = queries,
                    .weight = {a.code_bits, a.gradient},
                    .values_out = a.value_grad,
                    .rows_out = a.key_grad};
    if constexpr (sizeof(T) == 2) {
      if (fits_tensor_cores(a.queries, a.values)) {
        for (PairSide* side : {&queries, &keys}) {
          pack_where_needed<T>(kName, side->rows, stream, &side->scale);
          pack_where_needed<T>(kName, side->values, stream);
        }
        by_query.fixed = by_key.moving = queries;
        by_query.moving = by_key.fixed = keys;
        sum_all_pairs_on_tensor_cores<Sum::kRows>(kName, by_query, query_side, stream);
        return sum_all_pairs_on_tensor_cores<Sum::kBoth>(kName, by_key, key_side, stream);
      }
    }
    by_query.tiles = query_side.tiles(kPairTile);
    by_key.tiles = key_side.tiles(kPairTile);
    sum_all_pairs<Sum::kRows>(kName, by_query, stream);
    sum_all_pairs<Sum::kRows>(kName, by_key, stream);
    sum_all_pairs<Sum::kValues>(kName, by_key, stream);
  });
}

}  // namespace yoso::cuda
