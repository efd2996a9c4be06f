// expected_attention_grad/BACKEND/GRADIENT_TYPE_SHAPE
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include "yoso/ops/expected_attention_grad.h"
#include "yoso/ops/testing.h"

namespace yoso {
namespace {

using namespace yoso::testing;

void run_expected_attention_grad(benchmark::State& state, Gradient gradient, DType dtype,
                                 int64_t heads, int64_t rows) {
  constexpr int64_t kWidth = 64;
  Buffer queries(dtype, 1, heads, rows, kWidth), keys = queries, values = queries,
                                                 out_grad = queries, query_grad = queries,
                                                 key_grad = queries, value_grad = queries;
  fill_unit(queries, 1);
  fill_unit(keys, 2);
  fill_normal(values, 3);
  fill_normal(out_grad, 4);
  ExpectedAttentionGrad a;
  a.queries = queries.array();
  a.keys = keys.array();
  a.values = values.array();
  a.out_grad = out_grad.array();
  a.query_grad = query_grad.array();
  a.key_grad = key_grad.array();
  a.value_grad = value_grad.array();
  a.code_bits = 8;
  a.gradient = gradient;
  for (auto _ : state) {
    cpu::expected_attention_grad(a);
    benchmark::ClobberMemory();
  }
  // Five products a pair, without the weights.
  const auto products = static_cast<double>(heads * rows * rows * 2 * 5 * kWidth);
  state.SetItemsProcessed(state.iterations() * heads * rows);
  state.counters["flops"] =
      benchmark::Counter(products, benchmark::Counter::kIsIterationInvariantRate);
}

const bool kRegistered = [] {
  const auto add = [](Gradient gradient, DType dtype, int64_t heads, int64_t rows) {
    const std::string name =
        join("expected_attention_grad/cpu/", gradient == Gradient::kTrue ? "true" : "surrogate",
             "_", name_of(dtype), "_H", heads, "_N", rows, "_T8_D64_V64");
    benchmark::RegisterBenchmark(name.c_str(), run_expected_attention_grad, gradient, dtype, heads,
                                 rows)
        ->UseRealTime();
  };
  for (const int64_t rows : {128, 512, 4096}) add(Gradient::kSurrogate, DType::kFloat32, 12, rows);
  add(Gradient::kTrue, DType::kFloat32, 12, 512);
  add(Gradient::kSurrogate, DType::kBFloat16, 12, 512);
  // One head is cut up for the threads: seven products a pair.
  add(Gradient::kSurrogate, DType::kFloat32, 1, 4096);
  return true;
}();

}  // namespace
}  // namespace yoso
