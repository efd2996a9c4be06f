// residual_norm: what stands between the layers of an encoder, in one pass over the rows: bias and
// dropout of a branch, its sum with the residual, and the layer norm of that without scale and shift
// (which the next layer's weights can hold). And the gradient of all of it.
//
//   sum_i  = x_i + k_i (branch_i + bias) / (1 - p)     k: 0 with probability p, else 1; 0 x = 0
//   s_i    = 1 / sqrt(variance(sum_i) + epsilon)       of the W elements, not corrected
//   norm_i = s_i (sum_i - mean(sum_i))
//
//   x_grad_i      = sum_grad_i + s_i (g - mean(g) - norm_i mean(norm_i g)),   g = norm_grad_i
//   branch_grad_i = k_i x_grad_i / (1 - p),            bias_grad = sum_i branch_grad_i
//
// k is drawn from a seed, again in the gradient: element c of row r (of all B H N, in order) is
// dropped where block r ceil(W / 8) + c / 8 of stream 0 says so (core/dropout.h).
// O(N W). Ba, Layer Normalization, arXiv 1607.06450; Srivastava et al., Dropout, JMLR 2014.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/core/array.h"
#include "yoso/core/dropout.h"

namespace yoso {

struct DropoutMask {
  const int64_t* seed = nullptr;  // where the operator runs; read when something is dropped
  DropoutRate rate;               // below 1
};

struct ResidualNorm {
  static constexpr const char* kName = "residual_norm";

  ConstArray x;       // [B, H, N, W], floating, W from 1 to 1024
  ConstArray branch;  // [B, H, N, W], floating, or absent: sum = x
  ConstArray bias;    // [1, 1, 1, W], floating, or absent
  DropoutMask dropout;
  double epsilon = 1e-5;  // positive, as a float too but for double x
  Array sum;              // [B, H, N, W], floating, overwritten; may be absent
  Array norm;             // [B, H, N, W], floating, overwritten
  Array scale;            // [B, H, 1, N]: s, float (double for double x), overwritten

  void check() const;  // throws Error, naming the extent that disagrees
};

struct ResidualNormGrad {
  static constexpr const char* kName = "residual_norm_grad";

  ConstArray norm, scale;  // as ResidualNorm wrote them
  ConstArray sum_grad;     // [B, H, N, W], floating, or absent
  ConstArray norm_grad;    // [B, H, N, W], floating
  DropoutMask dropout;     // as it was
  Array x_grad;            // [B, H, N, W], floating, overwritten
  Array branch_grad;       // [B, H, N, W], floating, overwritten; may be absent
  Array bias_grad;  // [1, 1, 1, W], float (double for double norm), overwritten; may be absent

  void check() const;  // throws Error, naming the extent that disagrees
};

// out = sum of the rows of x: the gradient of a bias.
struct ColumnSums {
  static constexpr const char* kName = "column_sums";

  ConstArray x;  // [B, H, N, W], floating, W from 1 to 1024
  Array out;     // [1, 1, 1, W], float (double for double x), overwritten

  void check() const;  // throws Error, naming the extent that disagrees
};

namespace reference {
void residual_norm(const ResidualNorm& a);
void residual_norm_grad(const ResidualNormGrad& a);
void column_sums(const ColumnSums& a);
}  // namespace reference
namespace cpu {
void residual_norm(const ResidualNorm& a);
void residual_norm_grad(const ResidualNormGrad& a);
void column_sums(const ColumnSums& a);
}  // namespace cpu
namespace cuda {
class Stream;  // yoso/cuda/stream.h
void residual_norm(const ResidualNorm& a, Stream& stream);
void residual_norm_grad(const ResidualNormGrad& a, Stream& stream);
void column_sums(const ColumnSums& a, Stream& stream);
}  // namespace cuda

}  // namespace yoso
