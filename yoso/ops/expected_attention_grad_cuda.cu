// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/expected_attention_grad.h"
#include "yoso/ops/pair_sums.h"

namespace yoso::cuda {

void expected_attention_grad(const ExpectedAttentionGrad& a, Stream& stream) {
  a.check();
  constexpr const char* kName = ExpectedAttentionGrad::kName;
  with_gpu_type(kName, "queries", a.queries.dtype, [&]<class>() {});
  const Stream::Scope scope(stream);
  const GpuSide query_side(a.query_rows, a.queries.batch, a.queries.rows, stream);
  const GpuSide key_side(a.key_rows, a.keys.batch, a.keys.rows, stream);
  const PairSide queries =
      pair_side(kName, query_side, a.queries, a.query_scale, a.out_grad, stream);
  const PairSide keys = pair_side(kName, key_side, a.keys, a.key_scale, a.values, stream);
  clear_masked_rows(kName, queries, a.query_grad, stream);
  clear_masked_rows(kName, keys, a.key_grad, stream);
  clear_masked_rows(kName, keys, a.value_grad, stream);

  const PairWeight weight(a.code_bits, a.gradient);
  const Tiles query_tiles = query_side.tiles(kPairTile), key_tiles = key_side.tiles(kPairTile);
  sum_all_pairs<Sum::kRows>(kName, {queries, keys, query_tiles, weight, a.query_grad}, stream);
  sum_all_pairs<Sum::kRows>(kName, {keys, queries, key_tiles, weight, a.key_grad}, stream);
  sum_all_pairs<Sum::kValues>(kName, {keys, queries, key_tiles, weight, a.value_grad}, stream);
}

}  // namespace yoso::cuda
