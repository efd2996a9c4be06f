// hash/BACKEND/PROJECTION_SHAPE
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include "yoso/core/check.h"
#include "yoso/ops/hash.h"
#include "yoso/ops/testing.h"

namespace yoso {
namespace {

using testing::Buffer;

void run_hash(benchmark::State& state, Projection projection, int64_t rows, int64_t width,
              int64_t hashes, int64_t bits) {
  constexpr int64_t kHeads = 12;
  Buffer x(DType::kFloat32, 1, kHeads, rows, width);
  Buffer codes(code_dtype(bits), 1, kHeads, hashes, rows);
  testing::fill_normal(x, 1);
  Hash a{std::as_const(x).array(), codes.array(), bits, projection, nullptr, kHeads};
  const std::vector<float> projections = draw_projections(a.shape(), kHeads, 1);
  a.projections = projections.data();
  for (auto _ : state) {
    cpu::hash(a);
    benchmark::ClobberMemory();
  }
  const int64_t bytes = x.array().size() * 4 + codes.array().size() * size_of(codes.dtype());
  state.SetItemsProcessed(state.iterations() * kHeads * rows);
  state.SetBytesProcessed(state.iterations() * bytes);
}

const bool kRegistered = [] {
  for (Projection projection : {Projection::kHadamard, Projection::kGaussian}) {
    for (int64_t rows : {512, 4096, 32768}) {
      if (projection == Projection::kGaussian && rows > 4096) continue;
      const std::string name =
          join("hash/cpu/", projection == Projection::kHadamard ? "hadamard" : "gaussian", "_H12_N",
               rows, "_D64_M32_T8");
      benchmark::RegisterBenchmark(name.c_str(), run_hash, projection, rows, 64, 32, 8)
          ->UseRealTime();
    }
  }
  return true;
}();

}  // namespace
}  // namespace yoso
