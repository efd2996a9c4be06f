// A benchmark refuses to time what computes something else.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "yoso/cli/bench_case.h"
#include "yoso/torch/attention.h"

namespace yoso {

using AttentionFunction =
    std::function<at::Tensor(const YosoInputs& inputs, const YosoOptions& options)>;

// Compares attention of the case's mode, type, width, hashes and bits (auto: both modes), forward
// and gradients, with the references in double on a small shape: grouped heads, more keys than
// queries, lengths that fill no vector, masked keys and queries. Throws Error when they differ by
// more than rounding explains.
void check_attention(const BenchCase& c, const AttentionFunction& attention = yoso_attention);

}  // namespace yoso
