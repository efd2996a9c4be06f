// Which mode of YOSO attention is faster: from a table of measured times.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "yoso/torch/options.h"

namespace yoso {

enum class Device : uint8_t { kCpu, kCuda };

// kExpected or kSampled for sequences of `tokens` queries and keys, forward and backward. Expected
// attention costs N^2, sampled attention N * num_hashes; head counts, widths and T move both alike.
// The pass does not count: a forward that is computed again for its backward must choose alike.
Mode faster_mode(Device device, double tokens, int64_t num_hashes);

}  // namespace yoso
