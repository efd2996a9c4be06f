// unit_rows/BACKEND/TYPE_SHAPE and unit_rows_grad/...
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include "yoso/ops/testing.h"
#include "yoso/ops/unit_rows.h"

namespace yoso {
namespace {

using namespace yoso::testing;

constexpr int64_t kHeads = 12, kWidth = 64;

void run_unit_rows(benchmark::State& state, DType dtype, int64_t rows) {
  Buffer x(dtype, 1, kHeads, rows, kWidth), y = x, scale(DType::kFloat32, 1, kHeads, 1, rows);
  fill_normal(x, 1);
  for (auto _ : state) {
    cpu::unit_rows({std::as_const(x).array(), y.array(), scale.array()});
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * kHeads * rows);
  state.SetBytesProcessed(state.iterations() * kHeads * rows * (2 * kWidth * size_of(dtype) + 4));
}

void run_unit_rows_grad(benchmark::State& state, DType dtype, int64_t rows) {
  Buffer x(dtype, 1, kHeads, rows, kWidth), y_grad = x, x_grad = x,
                                            scale(DType::kFloat32, 1, kHeads, 1, rows);
  fill_normal(x, 1);
  fill_normal(y_grad, 2);
  cpu::unit_rows({std::as_const(x).array(), {}, scale.array()});
  const ConstArray s = std::as_const(scale).array();
  for (auto _ : state) {
    cpu::unit_rows_grad(
        {std::as_const(x).array(), s, s, std::as_const(y_grad).array(), x_grad.array()});
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * kHeads * rows);
  state.SetBytesProcessed(state.iterations() * kHeads * rows * (3 * kWidth * size_of(dtype) + 4));
}

const bool kRegistered = [] {
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (int64_t rows : {512, 4096, 32768}) {
      const std::string shape = join("/cpu/", name_of(dtype), "_H12_N", rows, "_W64");
      benchmark::RegisterBenchmark(("unit_rows" + shape).c_str(), run_unit_rows, dtype, rows)
          ->UseRealTime();
      benchmark::RegisterBenchmark(("unit_rows_grad" + shape).c_str(), run_unit_rows_grad, dtype,
                                   rows)
          ->UseRealTime();
    }
  }
  return true;
}();

}  // namespace
}  // namespace yoso
