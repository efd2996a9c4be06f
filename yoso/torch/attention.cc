// SPDX-License-Identifier: Apache-2.0
#include "yoso/torch/attention.h"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>
#include <optional>

#include "yoso/torch/convolution.h"
#include "yoso/torch/dispatch.h"

namespace yoso {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* kName = "yoso_attention";

// What the operator cannot see: it gets tensors that are there, on devices that it has code for.
void check_rows(const char* name, const Tensor& x) {
  TORCH_CHECK(x.defined(), kName, ": ", name, " is undefined, expected a tensor");
  TORCH_CHECK(x.is_cpu() || x.is_cuda(), kName, ": ", name, " is ", x.device(),
              ", expected cpu or cuda");
}

void check_conv_weight(const YosoInputs& in) {
  const Tensor& weight = in.conv_weight;
  if (!weight.defined()) return;
  // "yoso_attention: key is 5, expected 6".
  const auto check = [](bool condition, const char* argument, const auto& got,
                        const auto&... expected) {
    TORCH_CHECK(condition, kName, ": ", argument, " is ", got, ", expected ", expected...);
  };
  const char* name = "conv_weight";
  TORCH_CHECK(!in.query_offsets.defined(), kName,
              ": conv_weight is given with offsets, expected padded sequences");
  check(in.query.dim() == 4, "query", in.query.sizes(), "[batch, tokens, heads, width]");
  check(weight.dim() == 2 && weight.size(0) == in.query.size(-2) && weight.size(1) % 2 == 1, name,
        weight.sizes(), "[", in.query.size(-2), ", an odd width]");
  check(weight.scalar_type() == in.value.scalar_type(), name, weight.scalar_type(),
        in.value.scalar_type());
  check(weight.device() == in.value.device(), name, weight.device(), in.value.device());
  check(in.key.sizes() == in.query.sizes(), "key", in.key.sizes(), in.query.sizes(),
        ", the shape of query, with conv_weight");
}

std::optional<Tensor> seed_of(const YosoOptions& options, const at::Device& device) {
  if (options.mode == Mode::kExpected) return std::nullopt;
  if (options.seed) return at::scalar_tensor(*options.seed, at::kLong);
  // On the device: a CUDA graph then draws another one each time.
  return at::randint(std::numeric_limits<int64_t>::max(), {},
                     at::TensorOptions(device).dtype(at::kLong));
}

// mask [B, N] or [total] spread over heads and width.
Tensor unreal(const Tensor& mask) { return mask.logical_not().unsqueeze(-1).unsqueeze(-1); }

// Keeps for the backward: the raw inputs, the seed, the codes when sampled, the result and its row
// scales.
class YosoFunction : public torch::autograd::Function<YosoFunction> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& query, const Tensor& key,
                        const Tensor& value, const ops::Sides& sides,
                        const std::optional<Tensor>& seed, const YosoOptions& options) {
    const ops::Attention result =
        ops::attention(query, key, value, sides, seed.value_or(Tensor()), options);
    ctx->saved_data["num_hashes"] = options.num_hashes;
    ctx->saved_data["code_bits"] = options.code_bits;
    ctx->saved_data["mode"] = static_cast<int64_t>(options.mode);
    ctx->saved_data["gradient"] = static_cast<int64_t>(options.gradient);
    ctx->saved_data["backward_hashes"] = options.backward_hashes;
    ctx->saved_data["normalize_output"] = options.normalize_output;
    ctx->saved_data["longest"] = sides.longest;
    const bool keep_result = options.normalize_output;
    ctx->save_for_backward({query, key, value, keep_result ? result.out : Tensor(),
                            result.out_scale, result.query_codes, result.key_codes,
                            sides.query_mask, sides.key_mask, sides.query_offsets,
                            sides.key_offsets, seed.value_or(Tensor())});
    return result.out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), kName,
                ": create_graph is true, expected false: double backward is not supported");
    const variable_list saved = ctx->get_saved_variables();
    YosoOptions options;
    options.num_hashes = ctx->saved_data["num_hashes"].toInt();
    options.code_bits = ctx->saved_data["code_bits"].toDouble();
    options.mode = static_cast<Mode>(ctx->saved_data["mode"].toInt());
    options.gradient = static_cast<Gradient>(ctx->saved_data["gradient"].toInt());
    options.backward_hashes = ctx->saved_data["backward_hashes"].toOptional<int64_t>();
    options.normalize_output = ctx->saved_data["normalize_output"].toBool();
    const bool need_query_or_key = ctx->needs_input_grad(0) || ctx->needs_input_grad(1);
    const bool need_value = ctx->needs_input_grad(2);
    auto [query_grad, key_grad, value_grad] = ops::attention_backward(
        grads[0], saved[0], saved[1], saved[2], {saved[3], saved[4], saved[5], saved[6]},
        {saved[7], saved[8], saved[9], saved[10], ctx->saved_data["longest"].toOptional<int64_t>()},
        saved[11], options, need_query_or_key, need_value);
    if (!need_query_or_key) query_grad = key_grad = Tensor();
    if (!need_value) value_grad = Tensor();
    return {query_grad, key_grad, value_grad, {}, {}, {}};
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

// Over real tokens; 0 for masked queries.
Tensor convolve(const Tensor& value, const YosoInputs& in) {
  const Tensor real = in.key_mask.defined() ? value.masked_fill(unreal(in.key_mask), 0) : value;
  const Tensor out = convolve_tokens(real, in.conv_weight);
  return in.query_mask.defined() ? out.masked_fill(unreal(in.query_mask), 0) : out;
}

}  // namespace

Tensor yoso_attention(const YosoInputs& inputs, const YosoOptions& options) {
  const YosoInputs in = under_autocast(inputs);
  check_rows("query", in.query);
  check_rows("key", in.key);
  check_rows("value", in.value);
  check_conv_weight(in);
  const ops::Sides sides{in.query_mask, in.key_mask, in.query_offsets, in.key_offsets, in.longest};
  Tensor out = YosoFunction::apply(in.query, in.key, in.value, sides,
                                   seed_of(options, in.query.device()), options);
  if (in.conv_weight.defined() && in.value.numel() > 0) out = out + convolve(in.value, in);
  return out;
}

}  // namespace yoso
