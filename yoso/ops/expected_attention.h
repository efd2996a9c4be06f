// expected_attention: the expectation of bucket_attention over all hashes (the paper's YOSO-E).
//
//   out[b,h,i] = sum_j p(q_i . k_j) v_j,   p(x) = (1 - acos(x)/pi)^T
//
// over real keys j of the same sequence; q and k are unit rows, x is clamped to [-1, 1]. Tiled: no
// Nq x Nk array exists. O(Nq Nk (D + V)). Grouped heads, masks, ragged batches, determinism and
// accumulation as in bucket_attention.h. T may be any real > 0.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/core/array.h"

namespace yoso {

struct ExpectedAttention {
  static constexpr const char* kName = "expected_attention";

  ConstArray queries;      // [B, Hq, Nq, D], floating, D from 1 to 256
  ConstArray keys;         // [B, Hk, Nk, D], same type; Hq a multiple of Hk
  ConstArray query_scale;  // [B, Hq, 1, Nq] float (double for double queries) or absent: the unit
  ConstArray key_scale;    // [B, Hk, 1, Nk]  row is scale * row; absent: rows are unit already
  ConstArray values;       // [B, Hk, Nk, V], same type as keys, V from 1 to 256
  Array out;               // [B, Hq, Nq, V], floating (double iff queries are), overwritten
  double code_bits = 0;    // T, > 0
  Rows query_rows, key_rows;

  // Throws Error, naming the extent that disagrees.
  void check(Offsets allowed = Offsets::kOnHost) const;
};

namespace reference {
void expected_attention(const ExpectedAttention& a);
// p(x) = (1 - acos(x)/pi)^T, x clamped to [-1, 1].
double collision_probability(double x, double code_bits);
// dp/dx with 1 - x^2 not below kSlopeFloor and pi - acos(x) not below its root
// (bucket_attention_grad.h).
double collision_slope(double x, double code_bits);
}  // namespace reference
namespace cpu {
void expected_attention(const ExpectedAttention& a);
}
namespace cuda {
class Stream;  // yoso/cuda/stream.h
void expected_attention(const ExpectedAttention& a, Stream& stream);
}  // namespace cuda

}  // namespace yoso
