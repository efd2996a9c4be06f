// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/fused_adamw.h"

#include <map>
#include <memory>
#include <vector>

namespace yoso {

using torch::optim::AdamWOptions;
using torch::optim::AdamWParamState;

at::Tensor FusedAdamW::step(LossClosure closure) {
  TORCH_CHECK(closure == nullptr, "FusedAdamW: closure is given, expected none");
  const at::NoGradGuard no_grad;
  for (auto& group : param_groups()) {
    const auto& options = static_cast<const AdamWOptions&>(group.options());
    std::vector<at::Tensor> parameters, gradients, means, squares, steps;
    std::map<int64_t, at::Tensor> counts;  // on the device; all parameters share one as a rule
    for (const at::Tensor& parameter : group.params()) {
      if (!parameter.grad().defined()) continue;
      auto& slot = state()[parameter.unsafeGetTensorImpl()];
      if (slot == nullptr) {
        auto fresh = std::make_unique<AdamWParamState>();
        fresh->exp_avg(at::zeros_like(parameter));
        fresh->exp_avg_sq(at::zeros_like(parameter));
        slot = std::move(fresh);
      }
      auto& moments = static_cast<AdamWParamState&>(*slot);
      moments.step(moments.step() + 1);
      at::Tensor& count = counts[moments.step()];
      if (!count.defined()) {
        count = at::full({}, moments.step(), parameter.options().dtype(at::kFloat));
      }
      parameters.push_back(parameter);
      gradients.push_back(parameter.grad());
      means.push_back(moments.exp_avg());
      squares.push_back(moments.exp_avg_sq());
      steps.push_back(count);
    }
    if (parameters.empty()) continue;
    const auto [beta1, beta2] = options.betas();
    at::_fused_adamw_(parameters, gradients, means, squares, /*max_exp_avg_sqs=*/{}, steps,
                      options.lr(), beta1, beta2, options.weight_decay(), options.eps(),
                      /*amsgrad=*/false, /*maximize=*/false);
  }
  return {};
}

}  // namespace yoso
