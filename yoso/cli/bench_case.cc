// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/bench_case.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>
#include <c10/core/Event.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <numbers>
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

// Time on the GPU between two events around the run. The processor queues the run while the GPU
// overwrites its L2 cache, so what is timed is not the queueing, unless that takes longer.
double seconds_on_gpu(const std::function<void()>& run, at::Device device) {
  constexpr int64_t kMoreThanL2 = int64_t{256} << 20;
  at::empty({kMoreThanL2}, at::TensorOptions(device).dtype(at::kByte)).zero_();
  const c10::Stream stream = at::accelerator::getCurrentStream(device.index());
  c10::Event begin(device.type(), c10::EventFlag::BACKEND_DEFAULT);
  c10::Event end(device.type(), c10::EventFlag::BACKEND_DEFAULT);
  begin.record(stream);
  run();
  end.record(stream);
  end.synchronize();
  return begin.elapsedTime(end) / 1000;
}

// Memory of the process or of the GPU, since it was made.
class Memory {
 public:
  explicit Memory(at::Device device) : device_(device) {
    if (device_.is_cuda()) at::accelerator::resetPeakStats(device_.index());
    before_mib_ = device_.is_cuda() ? mib(allocated().current) : resident_mib();
  }
  double before_mib() const { return before_mib_; }
  double peak_mib() const { return device_.is_cuda() ? mib(allocated().peak) : yoso::peak_mib(); }

 private:
  c10::CachingAllocator::Stat allocated() const {
    return at::accelerator::getDeviceStats(device_.index()).allocated_bytes[0];
  }
  static double mib(int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

  at::Device device_;
  double before_mib_;
};

// As long as it lives SDPA has only the backend that `kind` names, if it names one.
class SdpaBackend {
 public:
  explicit SdpaBackend(const std::string& kind) : chosen_(kind == "cudnn" || kind == "flash") {
    if (chosen_) enable(kind == "cudnn", kind == "flash", false);
  }
  ~SdpaBackend() {
    if (chosen_) enable(true, true, true);
  }
  SdpaBackend(const SdpaBackend&) = delete;
  SdpaBackend& operator=(const SdpaBackend&) = delete;

 private:
  static void enable(bool cudnn, bool flash, bool others) {
    at::Context& context = at::globalContext();
    context.setSDPUseCuDNN(cudnn);
    context.setSDPUseFlash(flash);
    context.setSDPUseMemEfficient(others);
    context.setSDPUseMath(others);
  }
  bool chosen_;
};

at::Tensor attend(const BenchCase& c, const at::Tensor& query, const at::Tensor& key,
                  const at::Tensor& value) {
  if (c.is_yoso()) {
    YosoOptions options = yoso_options(c);
    if (c.backward_hashes > 0) options.backward_hashes = c.backward_hashes;
    return yoso_attention({query, key, value}, options);
  }
  const SdpaBackend backend(c.kind);
  return at::scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2),
                                          value.transpose(1, 2))
      .transpose(1, 2);
}

// The expectation before normalisation in double, for which the operators of a GPU have no kernel.
at::Tensor expectation_on_gpu(const YosoInputs& in, double code_bits) {
  const auto unit = [](const at::Tensor& x) {
    return (x / x.norm(2, -1, /*keepdim=*/true)).transpose(1, 2);
  };
  at::Tensor weight = at::matmul(unit(in.query), unit(in.key).transpose(2, 3));
  weight.clamp_(-1, 1).acos_().div_(-std::numbers::pi).add_(1).pow_(code_bits);
  return at::matmul(weight, in.value.transpose(1, 2)).transpose(1, 2);
}

}  // namespace

at::ScalarType scalar_type(const std::string& dtype) {
  if (dtype == "float32") return at::kFloat;
  if (dtype == "bfloat16") return at::kBFloat16;
  if (dtype == "float16") return at::kHalf;
  fail("bench: dtype is '", dtype, "', expected float32, bfloat16 or float16");
}

BenchInputs make_inputs(const BenchCase& c) {
  const auto options = at::TensorOptions(c.device).dtype(at::kFloat);
  at::Generator generator = c.device.is_cpu() ? at::make_generator<at::CPUGeneratorImpl>(kInputSeed)
                                              : at::globalContext().defaultGenerator(c.device);
  generator.set_current_seed(kInputSeed);
  const auto normal = [&](at::IntArrayRef shape) {
    return at::empty(shape, options).normal_(0, 1, generator);
  };
  const int64_t shape[] = {c.batch, c.tokens, c.heads, c.width};
  const int64_t rows = c.batch * c.tokens * c.heads;
  const at::Tensor centres = normal({kClusters, c.width});
  const auto side = [&] {
    if (c.input == "identical") return centres[0].expand(shape).contiguous();
    at::Tensor x = normal(shape);
    if (c.input == "clustered") {
      const at::Tensor centre = at::randint(kClusters, {rows}, generator, options.dtype(at::kLong));
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
  options.mode = named<Mode>(c.kind).value();
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

Times measure(const std::function<void()>& run, at::Device device, int64_t threads,
              const Effort& effort) {
  at::set_num_threads(static_cast<int>(threads));
  const bool on_gpu = device.is_cuda();
  const auto timed_run = [&] {
    if (on_gpu) return seconds_on_gpu(run, device);
    const auto start = std::chrono::steady_clock::now();
    run();
    return seconds_since(start);
  };
  Times times;
  if (!on_gpu) start_peak();
  const Memory memory(device);
  double warm_up = 0;
  on_gpu ? run() : void(warm_up = timed_run());
  times.peak_total_mib = memory.peak_mib();
  times.peak_mib = std::max(0.0, times.peak_total_mib - memory.before_mib());
  if (on_gpu) warm_up = timed_run();  // the run before it has loaded the kernels

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

Times measure(const BenchCase& c, const BenchInputs& inputs, const Effort& effort) {
  return measure([&] { run_once(c, inputs); }, c.device, c.threads, effort);
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
  const YosoInputs in{some(inputs.query).to(at::kDouble), inputs.key.to(at::kDouble),
                      inputs.value.to(at::kDouble)};
  const at::Tensor expectation =
      c.device.is_cuda() ? expectation_on_gpu(in, options.code_bits) : yoso_attention(in, options);
  return {((out - expectation).norm() / expectation.norm()).item<double>(),
          at::cosine_similarity(out, expectation, -1).mean().item<double>()};
}

}  // namespace yoso
