// One measurement of attention: inputs, times, memory, error.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string>

#include "yoso/torch/options.h"

namespace yoso {

struct BenchCase {
  // sampled, expected, auto: modes of YOSO. softmax: torch's SDPA as it chooses, or one backend of
  // it, on a GPU: cudnn, flash.
  std::string kind = "sampled";
  std::string dtype = "float32";    // float32, bfloat16, float16
  std::string input = "iid";        // iid, clustered, identical
  std::string pass = "forward";     // forward, forward+backward
  std::string bits_rule = "T = 8";  // how `bits` came about
  int64_t tokens = 0, batch = 1, heads = 12, width = 64;
  int64_t hashes = 32, bits = 8;  // M, T
  int64_t backward_hashes = 0;    // 0: all
  int64_t threads = 1;
  at::Device device = at::kCPU;

  bool with_backward() const { return pass != "forward"; }
  bool is_yoso() const { return named<Mode>(kind).has_value(); }
  bool is_quadratic() const { return !is_yoso() || kind == "expected"; }
};

// [B, N, H, D], as projections give them.
struct BenchInputs {
  at::Tensor query, key, value, out_grad;
};

// iid: independent normals. clustered: 16 centres with noise of 0.08 a coordinate. identical: all
// queries and keys are one row, the worst case of hashing. The same numbers on every call, on one
// kind of device.
BenchInputs make_inputs(const BenchCase& c);

// The options that the case stands for, without backward_hashes, whose gradients have no reference;
// kind must be a mode of YOSO.
YosoOptions yoso_options(const BenchCase& c);

// Runs the case once; on a GPU it is queued. With a backward the gradients of query, key and value
// are computed.
void run_once(const BenchCase& c, const BenchInputs& inputs);

struct Effort {
  int64_t repeat = 5;       // runs at least,
  double min_seconds = 1;   // and until so much time is spent,
  double max_seconds = 60;  // but no run is begun after this time
};

struct Times {
  double median_ms = 0, min_ms = 0, max_ms = 0;
  int64_t runs = 0;
  double peak_mib = 0;        // beyond what was resident before, inputs included there
  double peak_total_mib = 0;  // of the process
};

// Times of whatever `run` does; on a GPU it queues. Warms up with one run, which also measures the
// memory. A warm-up that takes longer than a tenth of max_seconds counts as a run: nothing is cold
// for that long. On a GPU memory is what torch's allocator gave out, time is between two events of
// the stream, and before each run the L2 cache is overwritten.
Times measure(const std::function<void()>& run, at::Device device, int64_t threads,
              const Effort& effort);
Times measure(const BenchCase& c, const BenchInputs& inputs, const Effort& effort);

at::ScalarType scalar_type(const std::string& dtype);  // float32, bfloat16, float16

struct Accuracy {
  double relative_error;  // Frobenius norm of the difference over that of the expectation
  double cosine;          // mean over rows
};

// The output before normalisation against the expectation in double on at most 256 evenly spaced
// queries (fewer above 500,000 rows).
Accuracy accuracy(const BenchCase& c, const BenchInputs& inputs);

}  // namespace yoso
