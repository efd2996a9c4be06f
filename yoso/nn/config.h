// Configuration of an attention layer. Free of torch, so that recipes can be read without it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "yoso/torch/options.h"

namespace yoso::nn {

// Where a block's layer norms stand: before each half, or after its residual sum.
enum class NormPosition : uint8_t { kPre, kPost };

struct AttentionConfig {
  std::string kind = "yoso";  // a name of attention_kinds()
  int64_t heads = 2;
  YosoOptions yoso;        // read by kind "yoso"; yoso.seed absent: drawn anew in each forward
  int64_t conv_width = 0;  // yoso: 0 = none, else odd (YOSO-C; 33 in the paper's efficiency study)
};

}  // namespace yoso::nn
