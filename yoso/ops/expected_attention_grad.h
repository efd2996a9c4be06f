// expected_attention_grad: gradients of expected_attention for unit queries q, unit keys k and
// values v, given G, the gradient of out.
//
//   value_grad_j = sum_i p(x_ij) G_i,   x_ij = q_i . k_j
//   query_grad_i = sum_j s_ij k_j,   key_grad_j = sum_i s_ij q_i,   with
//     kSurrogate  s_ij = T/2 p(x_ij) (G_i . v_j)        (the paper's lower bound of the slope)
//     kTrue       s_ij = p'(x_ij) (G_i . v_j),
//                 p'(x) = T (1 - acos(x)/pi)^(T-1) / (pi sqrt(1 - x^2)),
//                 1 - x^2 not below kSlopeFloor and pi - acos(x) not below its root
//
// Tiled, O(Nq Nk (D + V)) time and no Nq x Nk array. Rules as in expected_attention.h.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/core/array.h"
#include "yoso/ops/bucket_attention_grad.h"  // Gradient

namespace yoso {

struct ExpectedAttentionGrad {
  static constexpr const char* kName = "expected_attention_grad";

  ConstArray queries;  // as in ExpectedAttention
  ConstArray keys;
  ConstArray query_scale;
  ConstArray key_scale;
  ConstArray values;
  ConstArray out_grad;   // [B, Hq, Nq, V], floating (double iff queries are): G
  Array query_grad;      // [B, Hq, Nq, D], floating (double iff queries are), overwritten;
  Array key_grad;        // [B, Hk, Nk, D]  gradients with respect to the unit rows
  Array value_grad;      // [B, Hk, Nk, V], overwritten
  double code_bits = 0;  // T, > 0
  Gradient gradient = Gradient::kSurrogate;
  Rows query_rows, key_rows;

  // Throws Error, naming the extent that disagrees.
  void check(Offsets allowed = Offsets::kOnHost) const;
};

namespace reference {
void expected_attention_grad(const ExpectedAttentionGrad& a);
}
namespace cpu {
void expected_attention_grad(const ExpectedAttentionGrad& a);
}
namespace cuda {
class Stream;  // yoso/cuda/stream.h
void expected_attention_grad(const ExpectedAttentionGrad& a, Stream& stream);
}  // namespace cuda

}  // namespace yoso
