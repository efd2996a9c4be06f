// What a call costs before there is work: yoso_attention of one token of width 1. The same call
// from Python is timed by `python python/tests/time_a_call.py`.
//
// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include "yoso/torch/attention.h"

namespace yoso {
namespace {

void call(benchmark::State& state, Mode mode, bool with_gradient) {
  at::set_num_threads(1);
  const at::Tensor row = at::ones({1, 1, 1, 1}).requires_grad_(with_gradient);
  const YosoInputs inputs{.query = row, .key = row, .value = row};
  const YosoOptions options{.mode = mode, .num_hashes = 4, .seed = 3};
  for (auto _ : state) benchmark::DoNotOptimize(yoso_attention(inputs, options));
}

BENCHMARK_CAPTURE(call, expected, Mode::kExpected, false);
BENCHMARK_CAPTURE(call, sampled, Mode::kSampled, false);
BENCHMARK_CAPTURE(call, expected_with_gradient, Mode::kExpected, true);
BENCHMARK_CAPTURE(call, sampled_with_gradient, Mode::kSampled, true);

}  // namespace
}  // namespace yoso
