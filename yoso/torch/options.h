// What a user chooses about YOSO attention. Free of torch, so that recipes can be read without it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "yoso/ops/bucket_attention_grad.h"
#include "yoso/ops/hash.h"

namespace yoso {

enum class Mode : uint8_t {
  kExpected,  // the closed form, quadratic in the length
  kSampled,   // the mean over num_hashes hashes, linear in the length
  kAuto,      // the faster one for this device, length and mask (yoso/torch/crossover.h)
};

struct YosoOptions {
  Mode mode = Mode::kAuto;
  Gradient gradient = Gradient::kSurrogate;
  Projection projection = Projection::kHadamard;
  int64_t num_hashes = 32;  // M, used when sampled
  double code_bits = 8;     // T; when sampled an integer from 1 to 16
  // Absent: all. Else the gradient of queries and keys (not of values) comes from a block of so
  // many of the hashes, drawn from the seed: an unbiased estimate of that from all, for less time.
  // A divisor of num_hashes; with the surrogate gradient.
  std::optional<int64_t> backward_hashes = {};
  bool normalize_output = true;      // l2-normalise the output rows (the paper's layer)
  std::optional<int64_t> seed = {};  // absent: from torch's generator of the device
};

}  // namespace yoso
