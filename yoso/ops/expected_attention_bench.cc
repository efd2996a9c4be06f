// expected_attention/BACKEND/TYPE_SHAPE
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include "yoso/ops/expected_attention.h"
#include "yoso/ops/testing.h"

namespace yoso {
namespace {

using namespace yoso::testing;

void run_expected_attention(benchmark::State& state, DType dtype, double code_bits, int64_t rows) {
  constexpr int64_t kHeads = 12, kWidth = 64;
  Buffer queries(dtype, 1, kHeads, rows, kWidth), keys = queries, values = queries, out = queries;
  fill_unit(queries, 1);
  fill_unit(keys, 2);
  fill_normal(values, 3);
  ExpectedAttention a;
  a.queries = queries.array();
  a.keys = keys.array();
  a.values = values.array();
  a.out = out.array();
  a.code_bits = code_bits;
  for (auto _ : state) {
    cpu::expected_attention(a);
    benchmark::ClobberMemory();
  }
  // Two products a pair, without the weights.
  const auto products = static_cast<double>(kHeads * rows * rows * 2 * 2 * kWidth);
  state.SetItemsProcessed(state.iterations() * kHeads * rows);
  state.counters["flops"] =
      benchmark::Counter(products, benchmark::Counter::kIsIterationInvariantRate);
}

const bool kRegistered = [] {
  const auto add = [](DType dtype, double code_bits, int64_t rows) {
    const std::string name = join("expected_attention/cpu/", name_of(dtype), "_H12_N", rows, "_T",
                                  code_bits, "_D64_V64");
    benchmark::RegisterBenchmark(name.c_str(), run_expected_attention, dtype, code_bits, rows)
        ->UseRealTime();
  };
  for (const int64_t rows : {128, 512, 4096}) add(DType::kFloat32, 8, rows);
  add(DType::kFloat32, 7.5, 512);
  add(DType::kBFloat16, 8, 512);
  add(DType::kFloat64, 8, 512);
  return true;
}();

}  // namespace
}  // namespace yoso
