// residual_norm/BACKEND/TYPE_SHAPE and residual_norm_grad/...
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include "yoso/ops/residual_norm.h"
#include "yoso/ops/testing.h"

namespace yoso {
namespace {

using namespace yoso::testing;

constexpr int64_t kRows = 16384, kSeed = 1;
constexpr DropoutMask kDropout{.seed = &kSeed, .rate = {6554}};

Buffer normal(DType dtype, int64_t width) {
  Buffer x(dtype, 1, 1, kRows, width);
  fill_normal(x, 1);
  return x;
}

void run_forward(benchmark::State& state, int64_t width) {
  const Buffer x = normal(DType::kFloat32, width), branch = normal(DType::kBFloat16, width);
  Buffer sum = x, norm = branch, scale(DType::kFloat32, 1, 1, 1, kRows);
  for (auto _ : state) {
    cpu::residual_norm({.x = x.array(),
                        .branch = branch.array(),
                        .bias = {},
                        .dropout = kDropout,
                        .sum = sum.array(),
                        .norm = norm.array(),
                        .scale = scale.array()});
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * kRows);
  state.SetBytesProcessed(state.iterations() * kRows * width * 12);
}

void run_gradient(benchmark::State& state, int64_t width) {
  const Buffer norm = normal(DType::kBFloat16, width), sum_grad = normal(DType::kFloat32, width);
  Buffer scale(DType::kFloat32, 1, 1, 1, kRows), x_grad = sum_grad, branch_grad = norm,
                                                 bias_grad(DType::kFloat32, 1, 1, 1, width);
  scale.fill([](auto...) { return 1; });
  for (auto _ : state) {
    cpu::residual_norm_grad({.norm = norm.array(),
                             .scale = std::as_const(scale).array(),
                             .sum_grad = sum_grad.array(),
                             .norm_grad = norm.array(),
                             .dropout = kDropout,
                             .x_grad = x_grad.array(),
                             .branch_grad = branch_grad.array(),
                             .bias_grad = bias_grad.array()});
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * kRows);
  state.SetBytesProcessed(state.iterations() * kRows * width * 14);
}

const bool kRegistered = [] {
  for (int64_t width : {64, 768}) {
    const std::string shape = join("/cpu/bfloat16_N", kRows, "_W", width);
    benchmark::RegisterBenchmark(("residual_norm" + shape).c_str(), run_forward, width)
        ->UseRealTime();
    benchmark::RegisterBenchmark(("residual_norm_grad" + shape).c_str(), run_gradient, width)
        ->UseRealTime();
  }
  return true;
}();

}  // namespace
}  // namespace yoso
