// Which mode of YOSO attention is faster: from a table of measured times.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "yoso/torch/options.h"

namespace yoso {

enum class Device : uint8_t { kCpu };
enum class Pass : uint8_t { kForward, kForwardBackward };

// kExpected or kSampled for sequences of `tokens` queries and keys. Expected attention costs
// N^2, sampled attention N * num_hashes; head counts, widths and T move both alike.
Mode faster_mode(Device device, Pass pass, double tokens, int64_t num_hashes);

}  // namespace yoso
