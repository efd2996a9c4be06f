// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/step_graphs.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <utility>

#include "yoso/core/check.h"
#include "yoso/nn/generator.h"
#include "yoso/train/batches.h"

namespace yoso {
namespace {

// On the CPU, from where nothing waits for the copy to a GPU.
at::Tensor count_of(double labels, at::Device device) {
  const at::Tensor count = at::full({}, labels, at::kFloat);
  return device.is_cpu() ? count : count.pin_memory();
}

}  // namespace

StepInput to_device(const Batch& batch, double labels, at::Device device) {
  return {to_device(batch, device), count_of(labels, device).to(device, /*non_blocking=*/true)};
}

at::Tensor StepGraphs::Recorded::replay(const Batch& batch, double labels) {
  const auto fill = [](const at::Tensor& to, const at::Tensor& from) {
    to.copy_(from, /*non_blocking=*/true);
  };
  fill(input_.batch.tokens, batch.tokens);
  fill(input_.batch.mask, batch.mask);
  fill(input_.batch.labels, batch.labels);
  fill(input_.labels, count_of(labels, input_.labels.device()));
  graph_->replay();
  return loss_;
}

StepGraphs::StepGraphs(at::Device device, Step step)
    : device_(device), step_(std::move(step)), graphs_(make_cuda_graphs(device.index())) {}

StepGraphs::Recorded* StepGraphs::find(const Batch& batch) {
  std::vector<int64_t> shape = batch.tokens.sizes().vec();
  shape.push_back(batch.real_below.value_or(0));
  const auto [found, is_new] = recorded_.try_emplace(std::move(shape));
  if (is_new) return nullptr;
  Recorded& recorded = found->second;
  if (recorded.graph_ == nullptr) {
    const at::Tensor random = nn::generator_state();
    recorded.input_ = to_device(batch, /*labels=*/1, device_);
    auto graph = graphs_->capture([&] { recorded.loss_ = step_(recorded.input_); });
    if (!at::equal(random, nn::generator_state())) {
      nn::set_generator_state(random);
      fail("CUDA graphs: a step draws random numbers on the CPU, expected the GPU to draw them");
    }
    recorded.graph_ = std::move(graph);
  }
  return &recorded;
}

}  // namespace yoso
