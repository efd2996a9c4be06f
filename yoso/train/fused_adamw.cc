// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/fused_adamw.h"

#include <memory>

namespace yoso {

using torch::optim::AdamWOptions;
using torch::optim::AdamWParamState;

at::Tensor FusedAdamW::step(LossClosure closure) {
  TORCH_CHECK(closure == nullptr, "FusedAdamW: closure is given, expected none");
  count();
  update();
  return {};
}

void FusedAdamW::count() {
  const at::NoGradGuard no_grad;
  numbers_.resize(param_groups().size());
  for (size_t g = 0; g < numbers_.size(); ++g) {
    auto& group = param_groups()[g];
    const std::vector<at::Tensor>& parameters = group.params();
    if (parameters.empty()) continue;
    const at::TensorOptions options = at::TensorOptions().dtype(at::kFloat);
    // Pinned memory of its own for each step: the copy of the last one may still be on its way.
    const at::Tensor numbers = at::empty({1 + static_cast<int64_t>(parameters.size())},
                                         options.pinned_memory(parameters[0].is_cuda()));
    auto* number = numbers.mutable_data_ptr<float>();
    *number++ = static_cast<float>(static_cast<const AdamWOptions&>(group.options()).lr());
    for (const at::Tensor& parameter : parameters) {
      if (!parameter.grad().defined() && state().count(parameter.unsafeGetTensorImpl()) == 0) {
        *number++ = 0;
        continue;
      }
      auto& slot = state()[parameter.unsafeGetTensorImpl()];
      if (slot == nullptr) {
        auto fresh = std::make_unique<AdamWParamState>();
        fresh->exp_avg(at::zeros_like(parameter));
        fresh->exp_avg_sq(at::zeros_like(parameter));
        slot = std::move(fresh);
      }
      auto& moments = static_cast<AdamWParamState&>(*slot);
      moments.step(moments.step() + 1);
      *number++ = static_cast<float>(moments.step());
    }
    if (!numbers_[g].defined()) {
      numbers_[g] = at::empty(numbers.sizes(), options.device(parameters[0].device()));
    }
    numbers_[g].copy_(numbers, /*non_blocking=*/true);
  }
}

void FusedAdamW::update() {
  const at::NoGradGuard no_grad;
  for (size_t g = 0; g < numbers_.size(); ++g) {
    auto& group = param_groups()[g];
    const auto& options = static_cast<const AdamWOptions&>(group.options());
    std::vector<at::Tensor> parameters, gradients, means, squares, steps;
    for (size_t i = 0; i < group.params().size(); ++i) {
      const at::Tensor& parameter = group.params()[i];
      if (!parameter.grad().defined()) continue;
      const auto& moments =
          static_cast<const AdamWParamState&>(*state().at(parameter.unsafeGetTensorImpl()));
      parameters.push_back(parameter);
      gradients.push_back(parameter.grad());
      means.push_back(moments.exp_avg());
      squares.push_back(moments.exp_avg_sq());
      steps.push_back(numbers_[g][1 + static_cast<int64_t>(i)]);
    }
    if (parameters.empty()) continue;
    const auto [beta1, beta2] = options.betas();
    at::_fused_adamw_(parameters, gradients, means, squares, /*max_exp_avg_sqs=*/{}, steps,
                      numbers_[g][0], beta1, beta2, options.weight_decay(), options.eps(),
                      /*amsgrad=*/false, /*maximize=*/false);
  }
}

}  // namespace yoso
