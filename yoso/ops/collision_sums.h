// Sums over the pairs of rows that collide, of 16-bit numbers: for short sequences, and for true
// gradients of any length. With c_ij the number of hashes under which row i of the fixed side and
// row j of the moving side have one code,
//
//   Sum::kValues  out_i = factor sum_j c_ij values_j
//   Sum::kRows    out_i = factor sum_j c_ij (values_i . values_j) row_j      row_j scaled to unit
//   Sum::kBoth    both, with the collisions counted once: values_out, value_factor as well
//
// which is bucket_attention, the gradient of its values (keys fixed), and that of queries or keys;
// for the true one of those, of Sum::kRows, the slope of pair_weights.h times pi/T takes the place
// of c_ij where that is not 0.
// Collisions are counted pair by pair; the rest is products of matrices on tensor cores, in the
// order of the real rows. The work grows with the square of the length, 2 V or 2 (D + V) operations,
// 2 D more for true gradients, and T + 3 of 32 bits a word of 32 hashes for every pair, whatever the
// codes; that of buckets, with the number of hashes and with how crowded they are.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/ops/pair_side.h"
#include "yoso/ops/pair_weights.h"

namespace yoso::cuda {

struct CollisionSums {
  PairSide fixed, moving;                // values of 16 bits; kRows: rows too
  ConstArray fixed_codes, moving_codes;  // [B, H, M, N] of each side
  int64_t up_to = 0;  // sequences with more real rows on a side are left out: their rows of `out`
                      // stay as they are
  int64_t code_bits = 0;
  float factor = 1;
  Gradient gradient = Gradient::kSurrogate;  // kTrue: Sum::kRows alone
  bool of_rows = false;  // kRows: gradients of the fixed rows through their scales (unit_rows.h)
  Array out;             // [B, H, N, V or D] of the fixed side
  Array values_out;      // kBoth: [B, H, N, V], of kValues
  float value_factor = 1;
};

// Up to how many real rows a side pairs are less work than buckets, as measured on an H100 with
// independent tokens, which crowd least.
int64_t pairs_up_to(int64_t hashes);

// The same of the true gradient, whose other way is to visit every pair that meets.
int64_t true_pairs_up_to(int64_t hashes, int64_t code_bits);

// Whether collisions are counted at all: few enough to be exact, and `width`, the most columns of
// rows and values, fits the tensor cores' tiles and the shared memory of the GPU.
bool counts_collisions(Sum sum, const ConstArray& codes, int64_t code_bits, int64_t width);

// `fixed` and `moving`: the sides of `a`.
void sum_collisions(const char* op, Sum sum, const CollisionSums& a, const GpuSide& fixed,
                    const GpuSide& moving, Stream& stream);

// What the host knows of the sequences of a call: whether some may have up to `up_to` real rows on
// both sides, and whether some may have more.
struct Lengths {
  bool some_short = false, some_long = false;
  Lengths(const GpuSide& queries, const GpuSide& keys, int64_t up_to);
};

// `rows`, those of `side`, without the sequences that have up to `up_to` real rows on both sides:
// their mask is on the GPU.
Rows rows_of_long(const char* op, Rows rows, const PairSide& side, const PairSide& other,
                  int64_t up_to, Stream& stream);

}  // namespace yoso::cuda
