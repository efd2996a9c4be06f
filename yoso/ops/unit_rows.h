// unit_rows: rows divided by their l2 norm, and the gradient of that.
//
//   s_i = 1 / max(|x_i|, epsilon),   y_i = s_i x_i
//   x_grad_i = s_i (g_i - y_i (y_i . g_i)),   0 where |x_i| < epsilon: such a row has no direction
//
// Queries and keys before hashing; output rows after attention (the paper's l2 normalisation).
// Masked rows are not known here: they are treated like any other. O(N W).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/core/array.h"

namespace yoso {

inline constexpr double kUnitRowsEpsilon = 1e-12;

struct UnitRows {
  static constexpr const char* kName = "unit_rows";

  ConstArray x;  // [B, H, N, W], floating, W >= 1
  Array y;       // [B, H, N, W], floating, overwritten; absent: only the scale is wanted; may be x
  Array scale;   // [B, H, 1, N], float (double for double x), overwritten; may be absent

  void check() const;  // throws Error, naming the extent that disagrees
};

struct UnitRowsGrad {
  static constexpr const char* kName = "unit_rows_grad";

  ConstArray x;  // [B, H, N, W], floating; with x_scale y = x_scale * x, else x holds y itself
  ConstArray x_scale;  // [B, H, 1, N], float (double for double x), or absent
  ConstArray scale;    // [B, H, 1, N]: s, as UnitRows wrote it
  ConstArray y_grad;   // [B, H, N, W], floating
  Array x_grad;        // [B, H, N, W], floating, overwritten; may be y_grad itself

  void check() const;  // throws Error, naming the extent that disagrees
};

namespace reference {
void unit_rows(const UnitRows& a);
void unit_rows_grad(const UnitRowsGrad& a);
}  // namespace reference
namespace cpu {
void unit_rows(const UnitRows& a);
void unit_rows_grad(const UnitRowsGrad& a);
}  // namespace cpu
namespace cuda {
class Stream;  // yoso/cuda/stream.h
void unit_rows(const UnitRows& a, Stream& stream);
void unit_rows_grad(const UnitRowsGrad& a, Stream& stream);
}  // namespace cuda

}  // namespace yoso
