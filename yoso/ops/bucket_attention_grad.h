// bucket_attention_grad: gradients of unit queries q and unit keys k of sampled YOSO attention,
// given G, the gradient of bucket_attention's out. Over real queries i and keys j that share codes:
//
//   kSurrogate (the paper's lower bound of the slope, its YOSO):
//     s_ij = T/2 * 1/M sum_m [codes equal] * (G_i . v_j)
//   kTrue (the derivative of the expected weight on pairs that collided at least once, its *YOSO):
//     s_ij = T (1 - acos(x)/pi)^(T-1) / (pi sqrt(1 - x^2)) * (G_i . v_j),   x = q_i . k_j
//     with x clamped to [-1, 1], 1 - x^2 not below 1e-4 (the slope has a pole at x = 1) and
//     pi - acos(x) not below 1e-2
//   query_grad_i = sum_j s_ij k_j,   key_grad_j = sum_i s_ij q_i
//
// Neither is the derivative of the sampled forward, which has none; docs/math.md says what each
// estimates. Cost: kSurrogate handles a bucket of a queries and c keys pairwise, 3 a c W, or by
// outer products, 4 (a + c) D V / 2, whichever is less (W between D and V): O(N M D V) whatever the
// data. kTrue visits every collided pair: O(pairs (M + D + V)), quadratic when all tokens are
// alike; with 16-bit rows a GPU takes all pairs on tensor cores instead (collision_sums.h) unless
// 2^T > 256 M. The gradient of the values is bucket_attention with queries and keys swapped; with
// kSurrogate and short sequences, a GPU counts collisions once for both. Sums are float (double for
// double inputs), in an order that depends on the sequence alone.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "yoso/core/array.h"
#include "yoso/ops/bucket_attention.h"

namespace yoso {

enum class Gradient : uint8_t { kSurrogate, kTrue };

// In the true slope 1 - x^2 is not taken below this, pi - acos(x) not below its root.
inline constexpr double kSlopeFloor = 1e-4;

struct BucketAttentionGrad {
  static constexpr const char* kName = "bucket_attention_grad";

  ConstArray query_codes;  // [B, Hq, M, Nq], uint8 or uint16, each below 2^T
  ConstArray key_codes;    // [B, Hk, M, Nk], same type; Hq a multiple of Hk
  ConstArray queries;      // [B, Hq, Nq, D], floating, D from 1 to 256
  ConstArray keys;         // [B, Hk, Nk, D], same type
  ConstArray query_scale;  // [B, Hq, 1, Nq] float (double for double queries) or absent: the unit
  ConstArray key_scale;    // [B, Hk, 1, Nk]  row is scale * row; absent: rows are unit already
  ConstArray values;       // [B, Hk, Nk, V], same type as keys, V from 1 to 256
  ConstArray out_grad;     // [B, Hq, Nq, V], floating (double iff queries are): G
  Array query_grad;        // [B, Hq, Nq, D], floating (double iff queries are), overwritten;
  Array key_grad;          // [B, Hk, Nk, D]  gradients of the unit rows; 0 in masked ones
  Array value_grad;        // [B, Hk, Nk, V], or absent: of_values() as well
  int64_t code_bits = 0;   // T, 1 to 16
  Gradient gradient = Gradient::kSurrogate;
  bool of_rows = false;  // gradients of queries and keys themselves, through their scales, which
                         // are there (unit_rows.h: 0 where a row has no direction)
  Rows query_rows, key_rows;
  std::optional<int64_t> pairs_up_to;  // of these gradients and of of_values(), as in
                                       // bucket_attention.h

  // Throws Error, naming the extent that disagrees.
  void check(Offsets allowed = Offsets::kOnHost) const;

  // The gradient of the values: bucket_attention with queries and keys swapped.
  BucketAttention of_values() const;
};

namespace reference {
void bucket_attention_grad(const BucketAttentionGrad& a);
}
namespace cpu {
void bucket_attention_grad(const BucketAttentionGrad& a);
}
namespace cuda {
class Stream;  // yoso/cuda/stream.h
void bucket_attention_grad(const BucketAttentionGrad& a, Stream& stream);
}  // namespace cuda

}  // namespace yoso
