// SPDX-License-Identifier: Apache-2.0
#include "yoso/torch/attention.h"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <limits>

#include "yoso/torch/crossover.h"
#include "yoso/torch/dispatch.h"

namespace yoso {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* kName = "yoso_attention";

// "yoso_attention: key is 5, expected 6".
template <class Got, class... Expected>
void check(bool condition, const char* argument, const Got& got, const Expected&... expected) {
  TORCH_CHECK(condition, kName, ": ", argument, " is ", got, ", expected ", expected...);
}

void check_rows(const char* name, const Tensor& x, const Tensor& query, bool ragged) {
  TORCH_CHECK(x.defined(), kName, ": ", name, " is undefined, expected a tensor");
  check(x.dim() == (ragged ? 3 : 4), name, x.sizes(),
        ragged ? "[total, heads, width] with offsets" : "[batch, tokens, heads, width]");
  check(x.device() == query.device(), name, x.device(), query.device(), ", the device of query");
  check(x.is_cpu() || x.is_cuda(), name, x.device(), "cpu or cuda");
  check(at::isFloatingType(x.scalar_type()), name, x.scalar_type(), "a floating type");
  check(x.scalar_type() == query.scalar_type(), name, x.scalar_type(), query.scalar_type(),
        ", the type of query");
  check(x.size(-1) >= 1 && x.size(-1) <= 256, name, x.sizes(), "a width from 1 to 256");
  if (!ragged) {
    check(x.size(0) == query.size(0), name, x.sizes(), "the batch of query, ", query.size(0));
  }
}

void check_mask(const char* name, const Tensor& mask, const Tensor& x) {
  if (!mask.defined()) return;
  check(mask.device() == x.device(), name, mask.device(), x.device());
  check(mask.scalar_type() == at::kBool, name, mask.scalar_type(), "Bool");
  const at::IntArrayRef expected = x.sizes().slice(0, x.dim() - 2);
  check(mask.sizes() == expected, name, mask.sizes(), expected);
}

void check_offsets(const char* name, const Tensor& offsets) {
  TORCH_CHECK(offsets.defined(), kName, ": ", name,
              " is undefined, expected offsets for both sides or for none");
  check(offsets.device().is_cpu(), name, offsets.device(), "cpu");
  check(offsets.scalar_type() == at::kLong, name, offsets.scalar_type(), "Long (int64)");
  check(offsets.dim() == 1 && offsets.numel() >= 1, name, offsets.sizes(), "[sequences + 1]");
}

void check_conv_weight(const YosoInputs& in, bool ragged) {
  const Tensor& weight = in.conv_weight;
  if (!weight.defined()) return;
  const char* name = "conv_weight";
  TORCH_CHECK(!ragged, kName, ": conv_weight is given with offsets, expected padded sequences");
  check(weight.dim() == 2 && weight.size(0) == in.query.size(-2) && weight.size(1) % 2 == 1, name,
        weight.sizes(), "[", in.query.size(-2), ", an odd width]");
  check(weight.scalar_type() == in.value.scalar_type(), name, weight.scalar_type(),
        in.value.scalar_type());
  check(weight.device() == in.value.device(), name, weight.device(), in.value.device());
  check(in.key.size(1) == in.query.size(1) && in.key.size(2) == in.query.size(2), "key",
        in.key.sizes(), "the tokens and heads of query with conv_weight");
}

bool is_sampling_length(double code_bits) {
  return code_bits >= 1 && code_bits <= 16 && code_bits == std::floor(code_bits);
}

void check(const YosoInputs& in, const YosoOptions& options) {
  const bool ragged = in.query_offsets.defined() || in.key_offsets.defined();
  if (ragged) {
    check_offsets("query_offsets", in.query_offsets);
    check_offsets("key_offsets", in.key_offsets);
    check(in.key_offsets.numel() == in.query_offsets.numel(), "key_offsets", in.key_offsets.sizes(),
          in.query_offsets.sizes(), " as query_offsets");
  }
  check_rows("query", in.query, in.query, ragged);
  check_rows("key", in.key, in.query, ragged);
  check_rows("value", in.value, in.query, ragged);
  check(in.key.size(-1) == in.query.size(-1), "key", in.key.sizes(), "the width of query, ",
        in.query.size(-1));
  const int64_t query_heads = in.query.size(-2), key_heads = in.key.size(-2);
  check(key_heads == 0 ? query_heads == 0 : query_heads % key_heads == 0, "query", in.query.sizes(),
        "heads that are a multiple of the ", key_heads, " heads of key");
  check(in.value.sizes().slice(0, in.value.dim() - 1) == in.key.sizes().slice(0, in.key.dim() - 1),
        "value", in.value.sizes(), "the batch, tokens and heads of key, ", in.key.sizes());
  check_mask("query_mask", in.query_mask, in.query);
  check_mask("key_mask", in.key_mask, in.key);
  check_conv_weight(in, ragged);

  check(options.code_bits > 0, "code_bits", options.code_bits, "more than 0");
  check(options.num_hashes >= 1, "num_hashes", options.num_hashes, "at least 1");
  check(options.mode != Mode::kSampled || is_sampling_length(options.code_bits), "code_bits",
        options.code_bits, "an integer from 1 to 16 when sampled");
}

// Real tokens of each sequence, as far as they are known without looking at a ragged mask, or at a
// mask on a GPU: that would wait for it.
Tensor lengths(const Tensor& x, const Tensor& mask, const Tensor& offsets) {
  if (offsets.defined()) return offsets.diff();
  if (mask.defined() && mask.is_cpu()) return mask.sum(1);
  return at::full({x.size(0)}, x.size(1), at::kLong);
}

// The length of equal square sequences whose ratio of pairs to tokens is that of the inputs.
double equivalent_length(const YosoInputs& in) {
  const Tensor queries = lengths(in.query, in.query_mask, in.query_offsets).to(at::kDouble);
  const Tensor keys = lengths(in.key, in.key_mask, in.key_offsets).to(at::kDouble);
  const double tokens = (queries + keys).sum().item<double>();
  return tokens > 0 ? 2 * (queries * keys).sum().item<double>() / tokens : 0;
}

Mode resolve_mode(const YosoInputs& in, const YosoOptions& options) {
  if (options.mode != Mode::kAuto) return options.mode;
  if (!is_sampling_length(options.code_bits)) return Mode::kExpected;
  const Device device = in.query.is_cuda() ? Device::kCuda : Device::kCpu;
  return faster_mode(device, equivalent_length(in), options.num_hashes);
}

int64_t draw_seed() {
  return at::randint(std::numeric_limits<int64_t>::max(), {}, at::kLong).item<int64_t>();
}

at::ScalarType accumulation_type(const Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// mask [B, N] or [total] spread over heads and width.
Tensor unreal(const Tensor& mask) { return mask.logical_not().unsqueeze(-1).unsqueeze(-1); }

// The gradient of raw rows from that of unit rows, which it may overwrite; 0 in masked rows, which
// may hold anything.
Tensor raw_gradient(const Tensor& x, const Tensor& scale, Tensor grad, const Tensor& mask) {
  if (grad.scalar_type() == x.scalar_type()) {
    ops::unit_rows_grad_(x, scale, scale, grad);
  } else {
    grad = ops::unit_rows_grad(x, scale, scale, grad, x.scalar_type());
  }
  if (mask.defined()) grad.masked_fill_(unreal(mask), 0);
  return grad;
}

// What sums that are normalised, and gradients on their way back through that, are kept in: float
// for 16 bits, since half may overflow before it is normalised. bfloat16 has float's range, and on
// a GPU half the bytes are half the time.
at::ScalarType intermediate_type(const Tensor& value) {
  const bool narrow = value.is_cuda() && value.scalar_type() == at::kBFloat16;
  return narrow ? at::kBFloat16 : accumulation_type(value);
}

// Keeps for the backward: the raw inputs, the codes when sampled, the result and its row scales.
// Unit copies of queries and keys never exist; operators multiply by row scales on the fly.
class YosoFunction : public torch::autograd::Function<YosoFunction> {
 public:
  // `options` with mode and seed resolved.
  static Tensor forward(AutogradContext* ctx, const Tensor& query, const Tensor& key,
                        const Tensor& value, const ops::Sides& sides, const YosoOptions& options) {
    const at::ScalarType type =
        options.normalize_output ? intermediate_type(value) : value.scalar_type();
    Tensor out, out_scale, query_codes, key_codes;
    if (options.mode == Mode::kSampled) {
      const int64_t code_bits = static_cast<int64_t>(options.code_bits);
      const auto codes = [&](const Tensor& x) {
        return ops::hash(x, options.num_hashes, code_bits, *options.seed, options.projection,
                         key.size(-2));
      };
      query_codes = codes(query);
      key_codes = codes(key);
      out = ops::bucket_attention(query_codes, key_codes, value, code_bits, sides, type);
    } else {
      out = ops::expected_attention(query, key, ops::row_scales(query), ops::row_scales(key), value,
                                    options.code_bits, sides, type);
    }
    if (options.normalize_output) {
      if (type == value.scalar_type()) {
        out_scale = ops::unit_rows_(out);
      } else {
        std::tie(out, out_scale) = ops::unit_rows(out, value.scalar_type());
      }
    }
    ctx->saved_data["code_bits"] = options.code_bits;
    ctx->saved_data["true_gradient"] = options.gradient == Gradient::kTrue;
    ctx->save_for_backward({query, key, value, query_codes, key_codes,
                            options.normalize_output ? out : Tensor(), out_scale, sides.query_mask,
                            sides.key_mask, sides.query_offsets, sides.key_offsets});
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), kName,
                ": create_graph is true, expected false: double backward is not supported");
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &query = saved[0], &key = saved[1], &value = saved[2];
    const Tensor &query_codes = saved[3], &key_codes = saved[4];
    const Tensor &out = saved[5], &out_scale = saved[6];
    const ops::Sides sides{saved[7], saved[8], saved[9], saved[10]};
    const double code_bits = ctx->saved_data["code_bits"].toDouble();
    const Gradient gradient =
        ctx->saved_data["true_gradient"].toBool() ? Gradient::kTrue : Gradient::kSurrogate;
    const bool need_query_or_key = ctx->needs_input_grad(0) || ctx->needs_input_grad(1);

    const Tensor out_grad =
        out.defined() ? ops::unit_rows_grad(out, {}, out_scale, grads[0], intermediate_type(value))
                      : grads[0];
    Tensor query_grad, key_grad, value_grad, query_scale, key_scale;
    if (need_query_or_key || !query_codes.defined()) {
      query_scale = ops::row_scales(query);
      key_scale = ops::row_scales(key);
    }
    if (query_codes.defined()) {
      const int64_t bits = static_cast<int64_t>(code_bits);
      if (need_query_or_key) {
        std::tie(query_grad, key_grad) =
            ops::bucket_attention_grad(query_codes, key_codes, query, key, query_scale, key_scale,
                                       value, out_grad, bits, gradient, sides);
      }
      if (ctx->needs_input_grad(2)) {
        value_grad = ops::bucket_attention(key_codes, query_codes, out_grad, bits, sides.swapped(),
                                           value.scalar_type());
      }
    } else {
      std::tie(query_grad, key_grad, value_grad) = ops::expected_attention_grad(
          query, key, query_scale, key_scale, value, out_grad, code_bits, gradient, sides);
    }
    if (need_query_or_key) {
      query_grad = raw_gradient(query, query_scale, query_grad, sides.query_mask);
      key_grad = raw_gradient(key, key_scale, key_grad, sides.key_mask);
    }
    return {query_grad, key_grad, value_grad, {}, {}};
  }
};

// Under autocast the inputs in its type, as torch's own attention takes them; double stays double.
YosoInputs under_autocast(YosoInputs in) {
  if (!in.query.defined()) return in;
  const at::DeviceType device = in.query.device().type();
  if ((device != at::kCPU && device != at::kCUDA) || !at::autocast::is_autocast_enabled(device)) {
    return in;
  }
  for (Tensor* x : {&in.query, &in.key, &in.value, &in.conv_weight}) {
    if (x->defined()) {
      *x = at::autocast::cached_cast(at::autocast::get_autocast_dtype(device), *x, device);
    }
  }
  return in;
}

// out[b,n,h] = sum_t weight[h,t] value[b, n + t - w/2, h] over real tokens; 0 for masked queries.
Tensor convolve(const Tensor& value, const YosoInputs& in) {
  const Tensor& weight = in.conv_weight;
  const Tensor real = in.key_mask.defined() ? value.masked_fill(unreal(in.key_mask), 0) : value;
  const int64_t batch = value.size(0), tokens = value.size(1), heads = value.size(2),
                width = value.size(3);
  const Tensor columns = real.permute({0, 3, 2, 1}).reshape({batch * width, heads, tokens});
  Tensor out = at::conv1d(columns, weight.unsqueeze(1), /*bias=*/{}, /*stride=*/1,
                          /*padding=*/weight.size(1) / 2, /*dilation=*/1, /*groups=*/heads);
  out = out.reshape({batch, width, heads, tokens}).permute({0, 3, 2, 1});
  return in.query_mask.defined() ? out.masked_fill(unreal(in.query_mask), 0) : out;
}

}  // namespace

Tensor yoso_attention(const YosoInputs& inputs, const YosoOptions& options) {
  const YosoInputs in = under_autocast(inputs);
  check(in, options);
  YosoOptions resolved = options;
  resolved.mode = resolve_mode(in, options);
  if (resolved.mode == Mode::kSampled && !options.seed) resolved.seed = draw_seed();
  const ops::Sides sides{in.query_mask, in.key_mask, in.query_offsets, in.key_offsets};
  Tensor out = YosoFunction::apply(in.query, in.key, in.value, sides, resolved);
  if (in.conv_weight.defined() && in.value.numel() > 0) out = out + convolve(in.value, in);
  return out;
}

}  // namespace yoso
