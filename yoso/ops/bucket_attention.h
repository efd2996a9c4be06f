// bucket_attention: attention whose weights are hash collisions (YOSO, arXiv 2111.09714, eq. for
// the sampled estimate).
//
//   out[b,h,i] = 1/M sum_m sum_j [query_codes[b,h,m,i] == key_codes[b,h',m,j]] values[b,h',j]
//
// over real keys j of the same sequence. Keys drop their values into 2^T buckets per hash, queries
// read one bucket per hash: O(N M V) time, O(M 2^T V) memory per group in flight.
//
// Heads: Hq a multiple of Hk (grouped heads: h' = h / (Hq / Hk)), or Hk a multiple of Hq: then the
// sum also runs over the Hk / Hq key heads of the group. The second form makes the operator its own
// adjoint: swapping queries and keys gives the gradient of the values.
// Masked queries give zeros, as do queries that meet no key. Codes are inputs: all randomness lives
// in hash.h. Sums are float (double for double values), in an order that depends on the sequence
// alone: same bits for any number of threads, alone or in a batch, padded or ragged.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "yoso/core/array.h"

namespace yoso {

struct BucketAttention {
  static constexpr const char* kName = "bucket_attention";

  ConstArray query_codes;  // [B, Hq, M, Nq], uint8 or uint16, each below 2^T
  ConstArray key_codes;    // [B, Hk, M, Nk], same type
  ConstArray values;       // [B, Hk, Nk, V], floating, V from 1 to 256
  Array out;               // [B, Hq, Nq, V], floating (double iff values are), overwritten
  int64_t code_bits = 0;   // T, 1 to 16
  Rows query_rows, key_rows;
  // Where neither side of a sequence has more real rows than this, a GPU counts the collisions of
  // 16-bit rows pair by pair (collision_sums.h). 0: never. Absent: where that is faster.
  std::optional<int64_t> pairs_up_to;

  // Throws Error, naming the extent that disagrees.
  void check(Offsets allowed = Offsets::kOnHost) const;
};

namespace reference {
void bucket_attention(const BucketAttention& a);
}
namespace cpu {
void bucket_attention(const BucketAttention& a);
}
namespace cuda {
class Stream;  // yoso/cuda/stream.h
void bucket_attention(const BucketAttention& a, Stream& stream);
}  // namespace cuda

}  // namespace yoso
