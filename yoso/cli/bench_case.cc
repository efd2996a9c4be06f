// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/bench_case.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <vector>

#include "yoso/cli/machine.h"
#include "yoso/core/check.h"
#include "yoso/torch/attention.h"

namespace yoso {
namespace {

constexpr int64_t kClusters = 16;
constexpr double kClusterNoise = 0.08;
constexpr uint64_t kInputSeed = 1;
constexpr int64_t kHashSeed = 2;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

at::ScalarType scalar_type(const std::string& dtype) {
  if (dtype == "float32") return at::kFloat;
  if (dtype == "bfloat16") return at::kBFloat16;
  if (dtype == "float16") return at::kHalf;
  fail("bench: dtype is '", dtype, "', expected float32, bfloat16 or float16");
}

at::Tensor attend(const BenchCase& c, const at::Tensor& query, const at::Tensor& key,
                  const at::Tensor& value) {
  if (c.kind != "softmax") return yoso_attention({query, key, value}, yoso_options(c));
  return at::scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2),
                                          value.transpose(1, 2))
      .transpose(1, 2);
}

}  // namespace

BenchInputs make_inputs(const BenchCase& c) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(kInputSeed);
  const auto normal = [&](at::IntArrayRef shape) {
    return at::empty(shape, at::kFloat).normal_(0, 1, generator);
  };
  const int64_t shape[] = {c.batch, c.tokens, c.heads, c.width};
  const int64_t rows = c.batch * c.tokens * c.heads;
  const at::Tensor centres = normal({kClusters, c.width});
  const auto side = [&] {
    if (c.input == "identical") return centres[0].expand(shape).contiguous();
    at::Tensor x = normal(shape);
    if (c.input == "clustered") {
      const at::Tensor centre = at::randint(kClusters, {rows}, generator, at::kLong);
      x.mul_(kClusterNoise).add_(centres.index_select(0, centre).view(shape));
    }
    return x;
  };
  const at::ScalarType type = scalar_type(c.dtype);
  BenchInputs inputs;
  inputs.query = side().to(type);
  inputs.key = side().to(type);
  inputs.value = normal(shape).to(type);
  if (c.with_backward()) inputs.out_grad = normal(shape).to(type);
  return inputs;
}

YosoOptions yoso_options(const BenchCase& c) {
  YosoOptions options;
  options.mode = c.kind == "sampled"    ? Mode::kSampled
                 : c.kind == "expected" ? Mode::kExpected
                                        : Mode::kAuto;
  options.num_hashes = c.hashes;
  options.code_bits = static_cast<double>(c.bits);
  options.seed = kHashSeed;
  return options;
}

void run_once(const BenchCase& c, const BenchInputs& inputs) {
  if (!c.with_backward()) {
    c10::NoGradGuard no_grad;
    attend(c, inputs.query, inputs.key, inputs.value);
    return;
  }
  const auto leaf = [](const at::Tensor& x) { return x.detach().requires_grad_(); };
  const at::Tensor query = leaf(inputs.query), key = leaf(inputs.key), value = leaf(inputs.value);
  const at::Tensor out = attend(c, query, key, value);
  torch::autograd::grad({out}, {query, key, value}, {inputs.out_grad});
}

Times measure(const BenchCase& c, const BenchInputs& inputs, const Effort& effort) {
  at::set_num_threads(static_cast<int>(c.threads));
  const auto timed_run = [&] {
    const auto start = std::chrono::steady_clock::now();
    run_once(c, inputs);
    return seconds_since(start);
  };
  Times times;
  start_peak();
  const double resident_before = resident_mib();
  const double warm_up = timed_run();
  times.peak_total_mib = peak_mib();
  times.peak_mib = std::max(0.0, times.peak_total_mib - resident_before);

  std::vector<double> seconds;
  if (warm_up > effort.max_seconds / 10) seconds.push_back(warm_up);
  double spent = warm_up;
  while (seconds.empty() ||
         (spent < effort.max_seconds && (static_cast<int64_t>(seconds.size()) < effort.repeat ||
                                         spent - warm_up < effort.min_seconds))) {
    seconds.push_back(timed_run());
    spent += seconds.back();
  }
  std::sort(seconds.begin(), seconds.end());
  const size_t middle = seconds.size() / 2;
  const double median = seconds.size() % 2 == 1
                            ? seconds[middle]
                            : std::midpoint(seconds[middle - 1], seconds[middle]);
  times.median_ms = 1000 * median;
  times.min_ms = 1000 * seconds.front();
  times.max_ms = 1000 * seconds.back();
  times.runs = static_cast<int64_t>(seconds.size());
  return times;
}

Accuracy accuracy(const BenchCase& c, const BenchInputs& inputs) {
  c10::NoGradGuard no_grad;
  const int64_t rows =
      std::clamp<int64_t>((int64_t{1} << 27) / (c.tokens * c.batch * c.heads), 16, 256);
  const int64_t step = std::max<int64_t>(1, c.tokens / rows);
  const auto some = [&](const at::Tensor& x) { return x.slice(1, 0, step * rows, step); };

  YosoOptions options = yoso_options(c);
  options.normalize_output = false;
  const at::Tensor out =
      some(yoso_attention({inputs.query, inputs.key, inputs.value}, options)).to(at::kDouble);
  options.mode = Mode::kExpected;
  const at::Tensor expectation =
      yoso_attention({some(inputs.query).to(at::kDouble), inputs.key.to(at::kDouble),
                      inputs.value.to(at::kDouble)},
                     options);
  return {((out - expectation).norm() / expectation.norm()).item<double>(),
          at::cosine_similarity(out, expectation, -1).mean().item<double>()};
}

}  // namespace yoso
