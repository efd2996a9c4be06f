// SPDX-License-Identifier: Apache-2.0
#include "yoso/torch/crossover.h"

#include <cmath>

namespace yoso {
namespace {

// Milliseconds for 12 heads, D = V = 64, T = 8; sampled with M = 32. Rows go up in tokens.
// kCpu: made by `yoso bench crossover --threads 2` on 2 cores of an AMD Zen 4 (AVX-512),
// 2026-11-24. kCuda: by `yoso bench crossover --device cuda --tokens-total 32768 --tokens
// 64,128,256,512,1024,2048,4096,8192`, forward + backward in bfloat16, on an H100, 2026-11-27.
struct Measurement {
  Device device;
  int64_t tokens;
  double expected_ms, sampled_ms;
};
constexpr int64_t kMeasuredHashes = 32;
constexpr Measurement kMeasurements[] = {
    {Device::kCpu, 16, 0.16, 0.94},    {Device::kCpu, 32, 0.24, 1.36},
    {Device::kCpu, 64, 0.85, 2.08},    {Device::kCpu, 128, 2.07, 3.28},
    {Device::kCpu, 256, 6.13, 6.85},   {Device::kCpu, 512, 20.0, 14.0},
    {Device::kCpu, 1024, 76.7, 36.1},  {Device::kCpu, 2048, 274.0, 74.8},
    {Device::kCuda, 64, 1.27, 1.69},   {Device::kCuda, 128, 1.01, 1.21},
    {Device::kCuda, 256, 1.13, 1.41},  {Device::kCuda, 512, 1.42, 1.91},
    {Device::kCuda, 1024, 2.07, 2.95}, {Device::kCuda, 2048, 3.34, 5.02},
    {Device::kCuda, 4096, 5.88, 5.07}, {Device::kCuda, 8192, 11.3, 7.64},
};

}  // namespace

Mode faster_mode(Device device, double tokens, int64_t num_hashes) {
  // Between two rows by the logarithms of lengths and times, beyond them by the costs above.
  const Measurement *below = nullptr, *above = nullptr;
  for (const Measurement& row : kMeasurements) {
    if (row.device != device) continue;
    const bool is_below = static_cast<double>(row.tokens) <= tokens;
    if (is_below) below = &row;
    if (!is_below && above == nullptr) above = &row;
  }
  const auto time = [&](double Measurement::*ms, double exponent) {
    const Measurement& from = below != nullptr ? *below : *above;
    const double ratio = tokens / static_cast<double>(from.tokens);
    if (below != nullptr && above != nullptr) {
      exponent = std::log(above->*ms / from.*ms) /
                 std::log(static_cast<double>(above->tokens) / static_cast<double>(from.tokens));
    }
    return from.*ms * std::pow(ratio, exponent);
  };
  const double sampled =
      time(&Measurement::sampled_ms, 1) * static_cast<double>(num_hashes) / kMeasuredHashes;
  return time(&Measurement::expected_ms, 2) <= sampled ? Mode::kExpected : Mode::kSampled;
}

}  // namespace yoso
