// SPDX-License-Identifier: Apache-2.0
#include "yoso/torch/crossover.h"

namespace yoso {
namespace {

// Milliseconds for 12 heads, D = V = 64, T = 8; sampled with M = 32. Rows go up in tokens.
// Made by: yoso bench crossover
struct Measurement {
  Device device;
  Pass pass;
  int64_t tokens;
  double expected_ms, sampled_ms;
};
constexpr int64_t kMeasuredHashes = 32;
constexpr Measurement kMeasurements[] = {
    {Device::kCpu, Pass::kForward, 64, 0.1, 0.2},
    {Device::kCpu, Pass::kForward, 2048, 60.0, 4.0},
    {Device::kCpu, Pass::kForwardBackward, 64, 0.4, 0.8},
    {Device::kCpu, Pass::kForwardBackward, 2048, 300.0, 40.0},
};

}  // namespace

Mode faster_mode(Device device, Pass pass, double tokens, int64_t num_hashes) {
  // The two times of a row, moved to `tokens` by the costs above, from the row next below (or the
  // first one).
  double expected = 0, sampled = 0;
  bool found = false;
  for (const Measurement& row : kMeasurements) {
    if (row.device != device || row.pass != pass) continue;
    const double ratio = tokens / static_cast<double>(row.tokens);
    if (found && ratio < 1) break;
    found = true;
    expected = row.expected_ms * ratio * ratio;
    sampled = row.sampled_ms * ratio * static_cast<double>(num_hashes) / kMeasuredHashes;
  }
  return expected <= sampled ? Mode::kExpected : Mode::kSampled;
}

}  // namespace yoso
