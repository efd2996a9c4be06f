// Configuration of an attention layer. Free of torch, so that recipes can be read without it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "yoso/torch/options.h"

namespace yoso::nn {

// Where a block's layer norms stand: before each half, or after its residual sum.
enum class NormPosition : uint8_t { kPre, kPost };

// What the kinds are told, one struct each, with the defaults of their papers (docs/kinds.md).
// A seed that is absent is drawn anew in each forward, from torch's default generator: for yoso
// that of the device, for the other kinds the CPU's.

struct NystromOptions {
  int64_t landmarks = 64;
  int64_t iterations = 6;   // of the pseudo-inverse
  int64_t conv_width = 33;  // 0 = none, else odd; 35 in the paper's Long Range Arena
};

struct SkeinOptions {
  int64_t samples = 256;  // pilot rows, and columns
  std::optional<int64_t> seed;
};

enum class Features : uint8_t { kSoftmax, kRelu };

struct PerformerOptions {
  Features features = Features::kSoftmax;
  int64_t num_features = 256;
};

struct LinformerOptions {
  int64_t rank = 256;  // keys and values that are left
};

struct LongformerOptions {
  int64_t window = 512;       // even; half of it on each side of a token
  int64_t global_tokens = 1;  // so many first tokens see all and are seen by all
};

struct BigbirdOptions {  // counted in blocks of `block` tokens
  int64_t block = 64;
  int64_t window_blocks = 3;  // odd: around the token's own
  int64_t global_blocks = 2;  // the first ones
  int64_t random_blocks = 3;
  int64_t seed = 0;  // of the random blocks, which stay the same as in the paper
};

struct ReformerOptions {
  int64_t hashes = 2;
  int64_t chunk = 64;
  int64_t buckets = 0;  // even, or 1; 0: two for every chunk of real tokens
  std::optional<int64_t> seed;
};

struct RaceOptions {
  int64_t tables = 4;  // L
  int64_t planes = 4;  // P: 2^P corners a table
};

struct AttentionConfig {
  std::string kind = "yoso";  // a name of attention_kinds()
  int64_t heads = 2;
  int64_t head_width = 0;  // set by the block
  int64_t max_length = 0;  // set by the encoder
  YosoOptions yoso;        // read by kind "yoso"; yoso.seed absent: drawn anew in each forward
  int64_t conv_width = 0;  // yoso: 0 = none, else odd (YOSO-C; 33 in the paper's efficiency study)
  NystromOptions nystrom;
  SkeinOptions skein;
  PerformerOptions performer;
  LinformerOptions linformer;
  LongformerOptions longformer;
  BigbirdOptions bigbird;
  ReformerOptions reformer;
  RaceOptions race;
};

}  // namespace yoso::nn
