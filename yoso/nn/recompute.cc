// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/recompute.h"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

#include "yoso/nn/generator.h"

namespace yoso::nn {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

using Step = std::function<Tensor(const Tensor&)>;

// A step inside an autograd context, which keeps IValues.
struct StepHolder : torch::CustomClassHolder {
  explicit StepHolder(Step s) : step(std::move(s)) {}
  Step step;
};

// Mixed precision as it was when the step first ran.
class AutocastGuard {
 public:
  AutocastGuard(at::DeviceType device, bool enabled, at::ScalarType dtype)
      : device_(device),
        enabled_before_(at::autocast::is_autocast_enabled(device)),
        dtype_before_(at::autocast::get_autocast_dtype(device)) {
    set(enabled, dtype);
  }
  ~AutocastGuard() { set(enabled_before_, dtype_before_); }

 private:
  void set(bool enabled, at::ScalarType dtype) const {
    at::autocast::set_autocast_enabled(device_, enabled);
    at::autocast::set_autocast_dtype(device_, dtype);
  }

  at::DeviceType device_;
  bool enabled_before_;
  at::ScalarType dtype_before_;
};

// Runs the step as a graph of its own. Both passes do so: torch chooses kernels by whether
// gradients are wanted, and the two passes must choose alike.
std::pair<Tensor, Tensor> run(const Step& step, const Tensor& x, bool wants_grad) {
  const at::AutoGradMode enable(true);
  const Tensor input = x.detach().requires_grad_(wants_grad);
  // Autocast keeps one narrow copy of a leaf and sums its gradients narrowly; x is no leaf.
  return {input, step(input.view_as(input))};
}

class RecomputeFunction : public torch::autograd::Function<RecomputeFunction> {
 public:
  static Tensor forward(AutogradContext* ctx, const c10::intrusive_ptr<StepHolder>& holder,
                        const Tensor& x, at::TensorList parameters) {
    ctx->saved_data["step"] = c10::IValue::make_capsule(holder);
    const at::DeviceType device = x.device().type();
    ctx->saved_data["generators"] = generator_states(x.device());
    ctx->saved_data["autocast"] = at::autocast::is_autocast_enabled(device);
    ctx->saved_data["autocast_dtype"] =
        static_cast<int64_t>(at::autocast::get_autocast_dtype(device));
    ctx->saved_data["wants_grad"] = x.requires_grad();
    variable_list saved{x};
    saved.insert(saved.end(), parameters.begin(), parameters.end());
    ctx->save_for_backward(std::move(saved));
    return run(holder->step, x, x.requires_grad()).second.detach();
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "recompute_in_backward: create_graph is true, expected false: double backward is "
                "not supported");
    const auto holder =
        c10::static_intrusive_pointer_cast<StepHolder>(ctx->saved_data["step"].toCapsule());
    const bool wants_grad = ctx->saved_data["wants_grad"].toBool();
    const variable_list saved = ctx->get_saved_variables();

    const auto [input, out] = [&] {
      const GeneratorScope generators(ctx->saved_data["generators"].toTensorVector(),
                                      saved[0].device());
      const AutocastGuard autocast(
          saved[0].device().type(), ctx->saved_data["autocast"].toBool(),
          static_cast<at::ScalarType>(ctx->saved_data["autocast_dtype"].toInt()));
      return run(holder->step, saved[0], wants_grad);
    }();

    // Position 0 is the step, 1 is x, then the parameters.
    variable_list wanted, gradients(1 + saved.size());
    std::vector<size_t> positions;
    const auto want = [&](const Tensor& tensor, size_t position) {
      if (!tensor.requires_grad()) return;
      wanted.push_back(tensor);
      positions.push_back(position);
    };
    want(input, 1);
    for (size_t i = 1; i < saved.size(); ++i) want(saved[i], 1 + i);
    const variable_list found =
        torch::autograd::grad({out}, wanted, grads, /*retain_graph=*/false,
                              /*create_graph=*/false, /*allow_unused=*/true);
    for (size_t i = 0; i < found.size(); ++i) gradients[positions[i]] = found[i];
    return gradients;
  }
};

}  // namespace

Tensor recompute_in_backward(Step step, const Tensor& x, const std::vector<Tensor>& parameters) {
  return RecomputeFunction::apply(c10::make_intrusive<StepHolder>(std::move(step)), x,
                                  at::TensorList(parameters));
}

}  // namespace yoso::nn
