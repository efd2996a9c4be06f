// bucket_attention/BACKEND/TOKENS_SHAPE
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include "yoso/ops/bucket_attention.h"
#include "yoso/ops/hash.h"
#include "yoso/ops/testing.h"

namespace yoso {
namespace {

using namespace yoso::testing;

void run_bucket_attention(benchmark::State& state, Tokens tokens, int64_t rows) {
  constexpr int64_t kHeads = 12, kHashes = 32, kBits = 8, kWidth = 64;
  Buffer query_codes(code_dtype(kBits), 1, kHeads, kHashes, rows), key_codes = query_codes;
  Buffer values(DType::kFloat32, 1, kHeads, rows, kWidth), out = values;
  fill_codes(query_codes, kBits, 1, tokens);
  fill_codes(key_codes, kBits, 2, tokens);
  fill_normal(values, 3);
  BucketAttention a;
  a.query_codes = query_codes.array();
  a.key_codes = key_codes.array();
  a.values = values.array();
  a.out = out.array();
  a.code_bits = kBits;
  for (auto _ : state) {
    cpu::bucket_attention(a);
    benchmark::ClobberMemory();
  }
  const int64_t bytes = kHeads * rows * (2 * kHashes + 2 * kWidth * 4);
  state.SetItemsProcessed(state.iterations() * kHeads * rows);
  state.SetBytesProcessed(state.iterations() * bytes);
}

const bool kRegistered = [] {
  for (Tokens tokens : {Tokens::kIid, Tokens::kClusters, Tokens::kIdentical}) {
    for (int64_t rows : {512, 4096, 32768}) {
      const std::string name =
          join("bucket_attention/cpu/", name_of(tokens), "_H12_N", rows, "_M32_T8_V64");
      benchmark::RegisterBenchmark(name.c_str(), run_bucket_attention, tokens, rows)->UseRealTime();
    }
  }
  return true;
}();

}  // namespace
}  // namespace yoso
