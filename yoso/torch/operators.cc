// The operators as torch sees them. Python calls torch.ops.yoso.<name>, C++ yoso/torch/dispatch.h.
//
// Layouts: x, queries, keys, values, out [B, N, H, D], or [total, H, D] with offsets; codes
// [B, H, M, N] or [H, M, total]; scales are codes with M = 1; masks [B, N] or [total] bool, true =
// real; offsets [sequences + 1] int64 on the CPU, from 0 to total. Any strides; only a last
// dimension with gaps is copied. The meaning of each operator stands in yoso/ops/<name>.h.
// On a GPU: all tensors but offsets are on one device, and the work is queued on torch's current
// stream. Nothing waits for it, so a call can be captured in a CUDA graph (with the hashes of its
// seed). Scratch memory is torch's. float64 is refused.
// Results of half and bfloat16 that need another operator before they are final (unit rows' scales
// and gradients) are float.
// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(yoso, m) {
  // Head h of x uses projection h / (H / projection_heads); None: one projection a head.
  m.def(
      "hash(Tensor x, int num_hashes, int code_bits, int seed, str projection='hadamard', "
      "int? projection_heads=None) -> Tensor codes");

  // dtype: the type of the result; None: that of values.
  m.def(
      "bucket_attention(Tensor query_codes, Tensor key_codes, Tensor values, int code_bits, "
      "Tensor? query_mask=None, Tensor? key_mask=None, "
      "Tensor? query_offsets=None, Tensor? key_offsets=None, ScalarType? dtype=None) -> Tensor");
  // gradient: 'surrogate' or 'true'. The gradient of the values is bucket_attention with queries
  // and keys swapped.
  m.def(
      "bucket_attention_grad(Tensor query_codes, Tensor key_codes, Tensor queries, Tensor keys, "
      "Tensor? query_scale, Tensor? key_scale, Tensor values, Tensor out_grad, int code_bits, "
      "str gradient='surrogate', Tensor? query_mask=None, Tensor? key_mask=None, "
      "Tensor? query_offsets=None, Tensor? key_offsets=None) "
      "-> (Tensor query_grad, Tensor key_grad)");

  m.def(
      "expected_attention(Tensor queries, Tensor keys, Tensor? query_scale, Tensor? key_scale, "
      "Tensor values, float code_bits, Tensor? query_mask=None, Tensor? key_mask=None, "
      "Tensor? query_offsets=None, Tensor? key_offsets=None, ScalarType? dtype=None) -> Tensor");
  m.def(
      "expected_attention_grad(Tensor queries, Tensor keys, Tensor? query_scale, "
      "Tensor? key_scale, Tensor values, Tensor out_grad, float code_bits, "
      "str gradient='surrogate', Tensor? query_mask=None, Tensor? key_mask=None, "
      "Tensor? query_offsets=None, Tensor? key_offsets=None) "
      "-> (Tensor query_grad, Tensor key_grad, Tensor value_grad)");

  // dtype: the type of y; None: that of x. unit_rows_ overwrites x; row_scales leaves it alone and
  // gives only the scales.
  m.def("unit_rows(Tensor x, ScalarType? dtype=None) -> (Tensor y, Tensor scale)");
  m.def("unit_rows_(Tensor(a!) x) -> Tensor scale");
  m.def("row_scales(Tensor x) -> Tensor scale");
  // x_scale: None when x holds the unit rows themselves. dtype: the type of the result; None:
  // float, or double for double x. unit_rows_grad_ overwrites y_grad.
  m.def(
      "unit_rows_grad(Tensor x, Tensor? x_scale, Tensor scale, Tensor y_grad, "
      "ScalarType? dtype=None) -> Tensor");
  m.def("unit_rows_grad_(Tensor x, Tensor? x_scale, Tensor scale, Tensor(a!) y_grad) -> ()");
}
