// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/layer_norm.h"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "yoso/torch/dispatch.h"

namespace yoso::nn {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kMaxWidth = 1024;  // of residual_norm and column_sums

// The type of a product of `x`.
at::ScalarType product_type(const Tensor& x) {
  const at::DeviceType device = x.device().type();
  return at::autocast::is_autocast_enabled(device) ? at::autocast::get_autocast_dtype(device)
                                                   : x.scalar_type();
}

Tensor as_rows(const Tensor& x) { return x.reshape({-1, 1, x.size(-1)}); }
Tensor as_rows_or_none(const Tensor& x) { return x.defined() ? as_rows(x) : x; }

// The sum of the rows of x [R, W].
Tensor sum_of_rows(const Tensor& x) {
  std::vector<Tensor> panels;
  for (int64_t c = 0; c < x.size(1); c += kMaxWidth) {
    const Tensor panel = x.narrow(1, c, std::min(kMaxWidth, x.size(1) - c));
    panels.push_back(ops::column_sums(as_rows(panel)).view({-1}));
  }
  return panels.size() == 1 ? panels[0] : at::cat(panels);
}

void refuse_double_backward(const char* name) {
  TORCH_CHECK(!at::GradMode::is_enabled(), name,
              ": create_graph is true, expected false: double backward is not supported");
}

// Gives {norm}, or {sum, norm} with a branch.
class ResidualNormFunction : public torch::autograd::Function<ResidualNormFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& x,
                               const std::optional<Tensor>& branch,
                               const std::optional<Tensor>& bias, const std::optional<Tensor>& seed,
                               double dropout, double epsilon, at::ScalarType type) {
    ctx->set_materialize_grads(false);
    const auto out = ops::residual_norm(as_rows(x), as_rows_or_none(branch.value_or(Tensor())),
                                        as_rows_or_none(bias.value_or(Tensor())),
                                        seed.value_or(Tensor()), dropout, epsilon, type);
    ctx->save_for_backward({out.norm, out.scale, seed.value_or(Tensor())});
    ctx->saved_data["dropout"] = dropout;
    ctx->saved_data["x_type"] = static_cast<int64_t>(x.scalar_type());
    ctx->saved_data["branch_type"] =
        branch ? static_cast<int64_t>(branch->scalar_type()) : int64_t{-1};
    const Tensor norm = out.norm.view(x.sizes());
    return branch ? variable_list{out.sum.view(x.sizes()), norm} : variable_list{norm};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    refuse_double_backward("residual_norm");
    const variable_list saved = ctx->get_saved_variables();
    const int64_t branch_type = ctx->saved_data["branch_type"].toInt();
    const bool has_branch = branch_type >= 0;
    const Tensor sum_grad = has_branch ? grads[0] : Tensor();
    Tensor norm_grad = grads.back();
    if (!norm_grad.defined() && !sum_grad.defined()) return variable_list(7);
    const at::IntArrayRef sizes = (norm_grad.defined() ? norm_grad : sum_grad).sizes();
    if (!norm_grad.defined()) norm_grad = at::zeros(sizes, saved[0].options());
    const auto grad = ops::residual_norm_backward(
        saved[0], saved[1], as_rows_or_none(sum_grad), as_rows(norm_grad), saved[2],
        ctx->saved_data["dropout"].toDouble(),
        static_cast<at::ScalarType>(ctx->saved_data["x_type"].toInt()),
        has_branch ? std::optional(static_cast<at::ScalarType>(branch_type)) : std::nullopt,
        has_branch);
    variable_list result(7);
    result[0] = grad.x.view(sizes);
    if (has_branch) {
      result[1] = grad.branch.view(sizes);
      result[2] = grad.bias.view({-1});
    }
    return result;
  }
};

// linear(x, weight, bias) for x and weight of one type, bias of any; the gradient of the bias by
// sum_of_rows.
class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight,
                        const Tensor& bias) {
    ctx->save_for_backward({x, weight});
    ctx->saved_data["bias_type"] = static_cast<int64_t>(bias.scalar_type());
    return at::linear(x, weight, bias.to(weight.scalar_type()));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    refuse_double_backward("linear_norm_apart");
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1];
    const Tensor grad = grads[0].reshape({-1, weight.size(0)});
    return {
        at::mm(grad, weight).view(x.sizes()), at::mm(grad.t(), x.reshape({-1, x.size(-1)})),
        sum_of_rows(grad).to(static_cast<at::ScalarType>(ctx->saved_data["bias_type"].toInt()))};
  }
};

}  // namespace

bool takes_norms_apart(const Tensor& x) {
  return x.is_cuda() && x.scalar_type() != at::kDouble && x.size(-1) <= kMaxWidth;
}

Residual with_norm(const Tensor& x, double epsilon) {
  return {x, ResidualNormFunction::apply(x, std::nullopt, std::nullopt, std::nullopt, 0.0, epsilon,
                                         product_type(x))[0]};
}

Residual add_branch(const Tensor& x, const Tensor& branch, const Tensor& bias, double dropout,
                    double epsilon) {
  std::optional<Tensor> seed;
  if (dropout > 0)
    seed = at::randint(std::numeric_limits<int64_t>::max(), {1}, x.options().dtype(at::kLong));
  const variable_list out = ResidualNormFunction::apply(
      x, std::optional(branch), std::optional(bias), seed, dropout, epsilon, product_type(x));
  return {out[0], out[1]};
}

Tensor norm_apart(const torch::nn::LayerNorm& norm, const Tensor& unit) {
  return at::addcmul(norm->bias, unit.to(norm->weight.scalar_type()), norm->weight);
}

Tensor linear_norm_apart(const torch::nn::LayerNorm& norm, const Tensor& unit, const Tensor& weight,
                         const Tensor& bias) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  return LinearFunction::apply(unit, (weight * norm->weight).to(unit.scalar_type()),
                               at::addmv(bias, weight, norm->bias));
}

}  // namespace yoso::nn
