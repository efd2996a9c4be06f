// yoso::attention_backward: from the gradient of the output rows to those of raw queries, keys and
// values. Unit copies of queries and keys never exist: operators multiply by row scales on the fly.
// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "yoso/ops/gpu_rows.h"
#include "yoso/ops/hash_block.h"
#include "yoso/torch/arguments.h"
#include "yoso/torch/attention_call.h"
#include "yoso/torch/runner.h"

namespace yoso {
namespace {

// Sets rows x [B, N, H, W] to 0 where the mask [B, N] is false, whatever they hold.
void clear_masked(const Tensor& x, const OptionalTensor& mask) {
  if (!mask) return;
  std::array<StableIValue, 1> logical{torch::stable::detail::from(*mask)};
  TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::logical_not", "", logical.data(), TORCH_ABI_VERSION));
  const Tensor unreal = torch::stable::detail::to<Tensor>(logical[0]);
  const Tensor spread = torch::stable::unsqueeze(torch::stable::unsqueeze(unreal, -1), -1);
  const Tensor zero = torch::stable::full({}, 0.0, x.scalar_type());  // on the CPU: no wait
  std::array<StableIValue, 3> fill{torch::stable::detail::from(x),
                                   torch::stable::detail::from(spread),
                                   torch::stable::detail::from(zero)};
  TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::masked_fill_", "Tensor", fill.data(), TORCH_ABI_VERSION));
  torch::stable::detail::to<Tensor>(fill[0]);  // takes the result over
}

// The gradient of raw rows from that of unit rows, which it may overwrite; 0 in masked rows, and
// after the last sequence, which may hold anything.
Tensor raw_gradient([[maybe_unused]] const char* side, const Tensor& x, const Tensor& scale,
                    Tensor grad, const OptionalTensor& mask,
                    [[maybe_unused]] const OptionalTensor& offsets,
                    [[maybe_unused]] std::optional<int64_t> longest) {
  if (grad.scalar_type() == x.scalar_type()) {
    unit_rows_grad_(x, scale, scale, grad);
  } else {
    grad = unit_rows_grad(x, scale, scale, grad, x.scalar_type());
  }
  clear_masked(grad, mask);
#ifdef YOSO_CUDA
  if (offsets && !offsets->is_cpu()) {
    Arguments args(AttentionCall::kName);
    const Array rows = args.output("gradient", grad, Layout::kTokens);
    GpuRun gpu(grad);
    cuda::clear_rows_after(AttentionCall::kName, args.rows(side, {}, offsets, longest, rows), rows,
                           gpu.stream());
  }
#endif
  return grad;
}

// Of the num_hashes rows of codes, one of the blocks of backward_hashes rows, all alike likely. The
// mean over a block has the mean over all as its expectation, so the gradient has too.
Tensor subset(const AttentionCall& a, const Tensor& codes) {
  const auto& hashes = a.options.backward_hashes;
  if (!hashes) return codes;
  const Seed seed = a.seed_value();
#ifdef YOSO_CUDA
  if (seed.on_gpu != nullptr) {
    const int64_t rank = codes.dim();
    Tensor block = empty_codes(codes, rank == 4 ? codes.size(0) : 1, codes.size(rank - 3), *hashes,
                               codes.size(rank - 1), codes.scalar_type());
    Arguments args(AttentionCall::kName);
    GpuRun gpu(codes);
    cuda::copy_drawn_block(args.input("codes", codes, Layout::kCodes),
                           args.output("codes", block, Layout::kCodes), seed, gpu.stream());
    return block;
  }
#endif
  Tensor view = codes;
  const int64_t block = drawn_block(seed.number, a.options.num_hashes / *hashes);
  return torch::stable::narrow(view, codes.dim() - 2, block * *hashes, *hashes);
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> attention_backward(
    const Tensor& out_grad, const Tensor& query, const Tensor& key, const Tensor& value,
    const OptionalTensor& out, const OptionalTensor& out_scale, const Tensor& query_codes,
    const Tensor& key_codes, const OptionalTensor& query_mask, const OptionalTensor& key_mask,
    const OptionalTensor& query_offsets, const OptionalTensor& key_offsets,
    const OptionalTensor& seed, int64_t num_hashes, double code_bits, std::string_view mode,
    std::string_view gradient, std::optional<int64_t> backward_hashes, bool heads_first,
    bool need_query_or_key, bool need_value, std::optional<int64_t> longest) {
  const AttentionCall a(query, key, value, query_mask, key_mask, query_offsets, key_offsets, seed,
                        num_hashes, code_bits, mode, gradient, backward_hashes, heads_first,
                        longest);
  a.check();
  const bool sampled = a.mode() == Mode::kSampled;
  Tensor sum_grad = a.in_layout(out_grad);
  if (out) {
    sum_grad = unit_rows_grad(a.in_layout(*out), {}, *out_scale, sum_grad, a.intermediate_type());
  }
  Tensor query_grad, key_grad, value_grad;
  OptionalTensor query_scale, key_scale;
  if (need_query_or_key || !sampled) {
    query_scale = row_scales(a.query);
    key_scale = row_scales(a.key);
  }
  if (sampled) {
    const int64_t bits = static_cast<int64_t>(code_bits);
    bool with_value = false;
    if (need_query_or_key) {
      // Of all hashes, which the values keep, in one go.
      with_value = need_value && !a.options.backward_hashes;
      std::tie(query_grad, key_grad, value_grad) = sampled_gradients(
          subset(a, query_codes), subset(a, key_codes), a.query, a.key, query_scale, key_scale,
          a.value, sum_grad, bits, gradient, query_mask, key_mask, query_offsets, key_offsets,
          longest, /*of_rows=*/true, with_value);
    }
    if (need_value && !with_value) {
      value_grad = bucket_attention(key_codes, query_codes, sum_grad, bits, key_mask, query_mask,
                                    key_offsets, query_offsets, value.scalar_type(), longest);
    }
  } else {
    std::tie(query_grad, key_grad, value_grad) = expected_attention_grad(
        a.query, a.key, query_scale, key_scale, a.value, sum_grad, code_bits, gradient, query_mask,
        key_mask, query_offsets, key_offsets, longest);
    if (need_query_or_key) {
      query_grad = raw_gradient("query", a.query, *query_scale, query_grad, query_mask,
                                query_offsets, longest);
      key_grad = raw_gradient("key", a.key, *key_scale, key_grad, key_mask, key_offsets, longest);
    }
  }
  if (need_query_or_key) {
    query_grad = a.in_layout(query_grad);
    key_grad = a.in_layout(key_grad);
  } else {
    query_grad = no_elements(query, query.scalar_type());
    key_grad = no_elements(key, key.scalar_type());
  }
  value_grad = need_value ? a.in_layout(value_grad) : no_elements(value, value.scalar_type());
  return {query_grad, key_grad, value_grad};
}

}  // namespace yoso
