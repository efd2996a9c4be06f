// The operators as torch sees them. Python calls torch.ops.yoso.<name>, C++ yoso/torch/dispatch.h.
//
// Layouts: x, query, key, value, queries, keys, values, out [B, N, H, D], or [total, H, D] with
// offsets; codes [B, H, M, N] or [H, M, total]; scales are codes with M = 1; masks [B, N] or
// [total] bool, true = real; offsets [sequences + 1] int64 on the CPU, from 0 to total, or on the
// GPU of the rest with `longest`, at least the rows of any sequence of both sides: then they may end
// before total, and rows that follow give 0. Any strides; only a last dimension with gaps is copied.
// The meaning of each operator stands in yoso/ops/<name>.h, that of attention in
// yoso/torch/attention_call.h.
// On a GPU: all tensors are on one device, but for offsets and the seed of attention, which may be on
// the CPU, and the work is queued on torch's current stream. Nothing waits for it, so a call can be
// captured in a CUDA graph: with the hashes of a seed on the CPU, or with those of the seed that
// stands on the GPU when it is replayed. Scratch memory is torch's. float64 is refused.
// SPDX-License-Identifier: Apache-2.0
#include "yoso/torch/operators.h"

#include <torch/csrc/stable/library.h>

#include <atomic>

namespace yoso {

// One for the whole process, however many copies of this library it loads (a Python package and a
// C++ library of another build, say): g++ makes it a unique symbol. Torch refuses a second
// definition of an operator, so the copy that comes first serves all.
__attribute__((visibility("default"))) inline std::atomic<bool> operators_are_registered = false;

namespace {

const bool is_first_copy = !operators_are_registered.exchange(true);

void implement(torch::stable::detail::StableLibrary& m) {
  if (!is_first_copy) return;
  m.impl("hash", TORCH_BOX(&hash));
  m.impl("bucket_attention", TORCH_BOX(&bucket_attention));
  m.impl("bucket_attention_grad", TORCH_BOX(&bucket_attention_grad));
  m.impl("expected_attention", TORCH_BOX(&expected_attention));
  m.impl("expected_attention_grad", TORCH_BOX(&expected_attention_grad));
  m.impl("residual_norm", TORCH_BOX(&residual_norm));
  m.impl("residual_norm_backward", TORCH_BOX(&residual_norm_backward));
  m.impl("column_sums", TORCH_BOX(&column_sums));
  m.impl("attention", TORCH_BOX(&attention));
  m.impl("attention_backward", TORCH_BOX(&attention_backward));
}

}  // namespace
}  // namespace yoso

STABLE_TORCH_LIBRARY_FRAGMENT(yoso, m) {
  if (!yoso::is_first_copy) return;
  // Head h of x uses projection h / (H / projection_heads); None: one projection a head.
  m.def(
      "hash(Tensor x, int num_hashes, int code_bits, int seed, str projection='hadamard', "
      "int? projection_heads=None) -> Tensor codes");

  // dtype: the type of the result; None: that of values.
  m.def(
      "bucket_attention(Tensor query_codes, Tensor key_codes, Tensor values, int code_bits, "
      "Tensor? query_mask=None, Tensor? key_mask=None, "
      "Tensor? query_offsets=None, Tensor? key_offsets=None, ScalarType? dtype=None, "
      "int? longest=None) -> Tensor");
  // gradient: 'surrogate' or 'true'. The gradient of the values is bucket_attention with queries
  // and keys swapped.
  m.def(
      "bucket_attention_grad(Tensor query_codes, Tensor key_codes, Tensor queries, Tensor keys, "
      "Tensor? query_scale, Tensor? key_scale, Tensor values, Tensor out_grad, int code_bits, "
      "str gradient='surrogate', Tensor? query_mask=None, Tensor? key_mask=None, "
      "Tensor? query_offsets=None, Tensor? key_offsets=None, int? longest=None) "
      "-> (Tensor query_grad, Tensor key_grad)");

  m.def(
      "expected_attention(Tensor queries, Tensor keys, Tensor? query_scale, Tensor? key_scale, "
      "Tensor values, float code_bits, Tensor? query_mask=None, Tensor? key_mask=None, "
      "Tensor? query_offsets=None, Tensor? key_offsets=None, ScalarType? dtype=None, "
      "int? longest=None) -> Tensor");
  m.def(
      "expected_attention_grad(Tensor queries, Tensor keys, Tensor? query_scale, "
      "Tensor? key_scale, Tensor values, Tensor out_grad, float code_bits, "
      "str gradient='surrogate', Tensor? query_mask=None, Tensor? key_mask=None, "
      "Tensor? query_offsets=None, Tensor? key_offsets=None, int? longest=None) "
      "-> (Tensor query_grad, Tensor key_grad, Tensor value_grad)");

  // x, branch, sum, norm and their gradients [B, N, H, D] or [N, H, D], bias [1, 1, D]; without branch
  // and bias sum has no elements. seed: one int64 on the device of x. dtype: of norm.
  m.def(
      "residual_norm(Tensor x, Tensor? branch, Tensor? bias, Tensor? seed, float dropout, "
      "float epsilon, ScalarType dtype) -> (Tensor sum, Tensor norm, Tensor scale)");
  // A gradient that is not needed has no elements.
  m.def(
      "residual_norm_backward(Tensor norm, Tensor scale, Tensor? sum_grad, Tensor norm_grad, "
      "Tensor? seed, float dropout, ScalarType x_dtype, ScalarType? branch_dtype, bool need_bias) "
      "-> (Tensor x_grad, Tensor branch_grad, Tensor bias_grad)");
  m.def("column_sums(Tensor x) -> Tensor");

  // The whole layer on raw rows. heads_first: query, key, value, out and their gradients are
  // [B, H, N, D], or [H, total, D]. seed: one int64 on the CPU or on the device of
  // query, with the same hashes; None only where nothing is sampled.
  // gradient and backward_hashes are the backward's, and checked here. out_scale and the codes are
  // for the backward: without elements where it needs none (no normalisation; never sampled).
  m.def(
      "attention(Tensor query, Tensor key, Tensor value, Tensor? query_mask, Tensor? key_mask, "
      "Tensor? query_offsets, Tensor? key_offsets, Tensor? seed, int num_hashes, float code_bits, "
      "str mode, str gradient, str projection, bool normalize_output, int? backward_hashes, "
      "bool heads_first, int? longest=None) "
      "-> (Tensor out, Tensor out_scale, Tensor query_codes, Tensor key_codes)");
  // out and out_scale: None when the output is not normalised. A gradient that is not needed has
  // no elements.
  m.def(
      "attention_backward(Tensor out_grad, Tensor query, Tensor key, Tensor value, Tensor? out, "
      "Tensor? out_scale, Tensor query_codes, Tensor key_codes, Tensor? query_mask, "
      "Tensor? key_mask, Tensor? query_offsets, Tensor? key_offsets, Tensor? seed, "
      "int num_hashes, float code_bits, str mode, str gradient, int? backward_hashes, "
      "bool heads_first, bool need_query_or_key, bool need_value, int? longest=None) "
      "-> (Tensor query_grad, Tensor key_grad, Tensor value_grad)");
}

STABLE_TORCH_LIBRARY_IMPL(yoso, CPU, m) { yoso::implement(m); }
STABLE_TORCH_LIBRARY_IMPL(yoso, CUDA, m) { yoso::implement(m); }
