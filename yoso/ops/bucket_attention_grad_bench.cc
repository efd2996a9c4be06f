// bucket_attention_grad/BACKEND/GRADIENT_TOKENS_SHAPE
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include "yoso/ops/bucket_attention_grad.h"
#include "yoso/ops/hash.h"
#include "yoso/ops/testing.h"

namespace yoso {
namespace {

using namespace yoso::testing;

void run_bucket_attention_grad(benchmark::State& state, Gradient gradient, Tokens tokens,
                               int64_t rows) {
  constexpr int64_t kHeads = 12, kHashes = 32, kBits = 8, kWidth = 64;
  Buffer query_codes(code_dtype(kBits), 1, kHeads, kHashes, rows), key_codes = query_codes;
  Buffer queries(DType::kFloat32, 1, kHeads, rows, kWidth),
      keys = queries, values = queries, out_grad = queries, query_grad = queries,
      key_grad = queries;
  fill_codes(query_codes, kBits, 1, tokens);
  fill_codes(key_codes, kBits, 2, tokens);
  fill_unit(queries, 3, tokens);
  fill_unit(keys, 3, tokens);
  fill_normal(values, 4);
  fill_normal(out_grad, 5);
  BucketAttentionGrad a;
  a.query_codes = query_codes.array();
  a.key_codes = key_codes.array();
  a.queries = queries.array();
  a.keys = keys.array();
  a.values = values.array();
  a.out_grad = out_grad.array();
  a.query_grad = query_grad.array();
  a.key_grad = key_grad.array();
  a.code_bits = kBits;
  a.gradient = gradient;
  for (auto _ : state) {
    cpu::bucket_attention_grad(a);
    benchmark::ClobberMemory();
  }
  const int64_t bytes = kHeads * rows * (2 * kHashes + 6 * kWidth * 4);
  state.SetItemsProcessed(state.iterations() * kHeads * rows);
  state.SetBytesProcessed(state.iterations() * bytes);
}

const bool kRegistered = [] {
  const auto add = [](Gradient gradient, Tokens tokens, int64_t rows) {
    const std::string name =
        join("bucket_attention_grad/cpu/", gradient == Gradient::kTrue ? "true" : "surrogate", "_",
             name_of(tokens), "_H12_N", rows, "_M32_T8_D64_V64");
    benchmark::RegisterBenchmark(name.c_str(), run_bucket_attention_grad, gradient, tokens, rows)
        ->UseRealTime();
  };
  for (Tokens tokens : {Tokens::kIid, Tokens::kClusters, Tokens::kIdentical})
    for (int64_t rows : {512, 4096, 16384}) add(Gradient::kSurrogate, tokens, rows);
  // Quadratic when tokens are alike.
  for (int64_t rows : {512, 4096}) add(Gradient::kTrue, Tokens::kIid, rows);
  return true;
}();

}  // namespace
}  // namespace yoso
