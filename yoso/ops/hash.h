// hash: tokens to codes by the signs of random projections.
//
//   codes[b,h,m,i] = sum_t [ (P_h x[b,h,i])_{m,t} > 0 ] << t        (strictly greater: zero gives
//   0)
//
// Two unit vectors get the same T-bit code with probability (1 - acos(x.y)/pi)^T (Charikar 2002),
// exactly for Gaussian projections and nearly for Hadamard ones (docs/math.md states the bias).
// kGaussian: P is [M*T, D] of normals; cost O(N M T D).
// kHadamard: with d the smallest power of two >= max(D, T), x padded by zeros to d, floor(d/T)
//   codes come from one rotation H S2 H S1 H S0 x of random signs S and Walsh-Hadamard transforms H
//   (Sylvester order, unnormalised); output m*T+t of the rotation is bit t. O(N M T log d).
// Codes do not change when a row is scaled by a positive number. Projections are drawn for a head,
// not for a batch entry, so a sequence has the same codes alone and in any batch.
// A sum that rounding can take across zero may give another bit on another device, or where rows of
// 16 bits do not begin on boundaries of 16 bytes on a GPU.
// Rows must be finite; a row that is not gets codes without meaning (mask it). Hadamard sums of
// |x| d^1.5 must stay below the largest float.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "yoso/core/array.h"

namespace yoso {

enum class Projection : uint8_t { kHadamard, kGaussian };

// The numbers of one projection, for every head: signs of +-1, or standard normals
// rounded to bfloat16.
//   kHadamard: [heads, parts, 3, d], parts = ceil(M / floor(d / T))
//   kGaussian: [heads, M * T, D]
struct ProjectionShape {
  Projection projection = Projection::kHadamard;
  int64_t width = 0;       // D, 1 to 256
  int64_t num_hashes = 0;  // M, >= 1
  int64_t code_bits = 0;   // T, 1 to 16

  int64_t padded_width() const;    // d
  int64_t codes_per_part() const;  // floor(d / T)
  int64_t parts() const;
  int64_t numbers_per_head() const;
};

// Draws the projections of heads 0 .. heads - 1: [heads, numbers_per_head()]. Head h is a function
// of (seed, h) alone.
std::vector<float> draw_projections(const ProjectionShape& shape, int64_t heads, uint64_t seed);

// A seed that is known, or one that kernels read: a CUDA graph then draws other numbers each time.
struct Seed {
  uint64_t number = 0;
  const int64_t* on_gpu = nullptr;  // where it stands in the memory of the GPU; number is not read

  constexpr uint64_t value() const {
    return on_gpu == nullptr ? number : static_cast<uint64_t>(*on_gpu);
  }
};

struct Hash {
  static constexpr const char* kName = "hash";

  ConstArray x;           // [B, H, N, D], floating, D from 1 to 256
  Array codes;            // [B, H, M, N], uint8 for T <= 8, else uint16; overwritten
  int64_t code_bits = 0;  // T, 1 to 16
  Projection projection = Projection::kHadamard;
  const float* projections = nullptr;  // draw_projections() of projection_heads heads
  int64_t projection_heads = 0;  // divides H; head h uses projection h / (H / projection_heads)

  ProjectionShape shape() const;
  void check() const;  // throws Error, naming the extent that disagrees
};

// The element type of codes of `code_bits` bits.
DType code_dtype(int64_t code_bits);

namespace reference {
void hash(const Hash& a);
}
namespace cpu {
void hash(const Hash& a);
}
namespace cuda {
class Stream;  // yoso/cuda/stream.h

// On the GPU: a.projections too. Takes float, bfloat16 and half.
void hash(const Hash& a, Stream& stream);
// The same numbers as above, on the GPU; they live as long as `stream`.
float* draw_projections(const ProjectionShape& shape, int64_t heads, const Seed& seed,
                        Stream& stream);
}  // namespace cuda

}  // namespace yoso
