// The backend that an operator's test is about. Every X_test.cc is built twice where CUDA is: as
// X_test, where `backend` is cpu, and as X_cuda_test, where `backend` copies each array to the GPU,
// runs the operator there and copies results back, gaps and all.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <initializer_list>
#include <optional>
#include <string>

#include "yoso/ops/bucket_attention.h"

namespace yoso {

// Up to which length the tested operator counts collisions pair by pair: its own choice, or
// YOSO_TEST_PAIRS_UP_TO.
inline std::optional<int64_t> tested_pairs_up_to() {
  const char* number = std::getenv("YOSO_TEST_PAIRS_UP_TO");
  if (number == nullptr) return {};
  return std::stoll(number);
}

}  // namespace yoso

#ifndef YOSO_TEST_CUDA

namespace yoso {
namespace cpu {}
namespace backend = cpu;
inline constexpr bool kOnGpu = false;
}  // namespace yoso

#else

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "yoso/core/array.h"
#include "yoso/cuda/launch.h"
#include "yoso/cuda/stream.h"
#include "yoso/ops/bucket_attention.h"
#include "yoso/ops/bucket_attention_grad.h"
#include "yoso/ops/expected_attention.h"
#include "yoso/ops/expected_attention_grad.h"
#include "yoso/ops/hash.h"
#include "yoso/ops/residual_norm.h"
#include "yoso/ops/unit_rows.h"

namespace yoso {
inline constexpr bool kOnGpu = true;

// Skips every test, with the reason, where no GPU can run it.
class GpuEnvironment : public ::testing::Environment {
  void SetUp() override {
    if (const char* reason = cuda::unavailable()) GTEST_SKIP() << "no GPU to test on: " << reason;
  }
};
inline const auto* const kGpuEnvironment = ::testing::AddGlobalTestEnvironment(new GpuEnvironment);

namespace backend {

// Copies of host memory on the GPU for one call.
class Mirror {
 public:
  Mirror() = default;
  Mirror(const Mirror&) = delete;
  Mirror& operator=(const Mirror&) = delete;
  ~Mirror() {
    for (void* block : blocks_) cudaFree(block);
  }

  cuda::Stream& stream() { return stream_; }

  // `a` moves to the GPU: the whole range of memory between its first and last element, as far from
  // a boundary of 256 bytes as on the host.
  void input(ConstArray& a) { move(a); }
  void output(Array& a) {
    if (a.data == nullptr) return;
    const void* host = a.data;
    const Range range = move(a);
    results_.push_back({const_cast<void*>(host), a.data, range});
  }
  void input(Rows& rows, int64_t batch, int64_t count) {
    if (rows.mask == nullptr) return;
    const int64_t size = batch == 0 ? 0 : (batch - 1) * rows.mask_stride + count;
    rows.mask = static_cast<const bool*>(copy(rows.mask, {0, size}));
  }
  template <class T>
  const T* input(const T* numbers, int64_t count) {
    return static_cast<const T*>(copy(numbers, {0, count * int64_t{sizeof(T)}}));
  }

  // Waits for the GPU and copies the results back.
  void finish() {
    cuda::throw_if_failed("the test's operator", cudaDeviceSynchronize());
    for (const Result& r : results_) {
      cuda::throw_if_failed("cudaMemcpy",
                            cudaMemcpy(static_cast<std::byte*>(r.host) + r.range.begin,
                                       static_cast<std::byte*>(r.device) + r.range.begin,
                                       static_cast<size_t>(r.range.size), cudaMemcpyDeviceToHost));
    }
  }

 private:
  struct Range {
    int64_t begin, size;  // bytes from the array's pointer
  };
  struct Result {
    void *host, *device;
    Range range;
  };

  void* copy(const void* host, Range range) {
    if (host == nullptr) return nullptr;
    const std::byte* first = static_cast<const std::byte*>(host) + range.begin;
    const auto shift = static_cast<int64_t>(reinterpret_cast<uintptr_t>(first) % 256);
    void* block = nullptr;
    cuda::throw_if_failed("cudaMalloc",
                          cudaMalloc(&block, static_cast<size_t>(range.size + shift + 1)));
    blocks_.push_back(block);
    std::byte* to = static_cast<std::byte*>(block) + shift;
    cuda::throw_if_failed("cudaMemcpy", cudaMemcpy(to, first, static_cast<size_t>(range.size),
                                                   cudaMemcpyHostToDevice));
    return to - range.begin;
  }

  template <class Void>
  Range move(BasicArray<Void>& a) {
    const int64_t size = size_of(a.dtype);
    Range range{0, 0};
    if (a.data == nullptr) return range;
    if (a.size() > 0) {
      int64_t low = 0, high = a.cols;
      const std::pair<int64_t, int64_t> steps[] = {
          {a.batch, a.batch_stride}, {a.heads, a.head_stride}, {a.rows, a.row_stride}};
      for (const auto& [extent, stride] : steps) {
        const int64_t end = (extent - 1) * stride;
        low += std::min<int64_t>(end, 0);
        high += std::max<int64_t>(end, 0);
      }
      range = {low * size, (high - low) * size};
    }
    a.data = copy(a.data, range);
    return range;
  }

  cuda::PoolStream stream_{nullptr};
  cuda::Stream::Scope scope_{stream_};
  std::vector<void*> blocks_;
  std::vector<Result> results_;
};

// Masks and offsets of both sides; `queries` and `keys` are arrays [B, H, N, *] on the host.
template <class Op>
void mirror_sides(Mirror& gpu, Op& a, const ConstArray& queries, const ConstArray& keys) {
  gpu.input(a.query_rows, queries.batch, queries.rows);
  gpu.input(a.key_rows, keys.batch, keys.rows);
}

inline void hash(const Hash& call) {
  Hash a = call;
  a.check();  // what is refused is refused before anything is copied
  Mirror gpu;
  a.projections = gpu.input(a.projections, a.projection_heads * a.shape().numbers_per_head());
  gpu.input(a.x);
  gpu.output(a.codes);
  cuda::hash(a, gpu.stream());
  gpu.finish();
}

inline void bucket_attention(const BucketAttention& call) {
  BucketAttention a = call;
  a.check();
  Mirror gpu;
  mirror_sides(gpu, a, a.out, a.values);
  gpu.input(a.query_codes);
  gpu.input(a.key_codes);
  gpu.input(a.values);
  gpu.output(a.out);
  cuda::bucket_attention(a, gpu.stream());
  gpu.finish();
}

template <class Op>
void gradient(Op a, void (*run)(const Op&, cuda::Stream&)) {
  a.check();
  Mirror gpu;
  mirror_sides(gpu, a, a.queries, a.keys);
  if constexpr (requires { a.query_codes; }) {
    gpu.input(a.query_codes);
    gpu.input(a.key_codes);
  }
  for (ConstArray* x : {&a.queries, &a.keys, &a.query_scale, &a.key_scale, &a.values, &a.out_grad})
    gpu.input(*x);
  gpu.output(a.query_grad);
  gpu.output(a.key_grad);
  if constexpr (requires { a.value_grad; }) gpu.output(a.value_grad);
  run(a, gpu.stream());
  gpu.finish();
}

inline void bucket_attention_grad(const BucketAttentionGrad& a) {
  gradient(a, cuda::bucket_attention_grad);
}
inline void expected_attention_grad(const ExpectedAttentionGrad& a) {
  gradient(a, cuda::expected_attention_grad);
}

inline void expected_attention(const ExpectedAttention& call) {
  ExpectedAttention a = call;
  a.check();
  Mirror gpu;
  mirror_sides(gpu, a, a.queries, a.keys);
  for (ConstArray* x : {&a.queries, &a.keys, &a.query_scale, &a.key_scale, &a.values})
    gpu.input(*x);
  gpu.output(a.out);
  cuda::expected_attention(a, gpu.stream());
  gpu.finish();
}

// In place where y is x.
inline void unit_rows(const UnitRows& call) {
  UnitRows a = call;
  a.check();
  Mirror gpu;
  const bool in_place = a.y.data == a.x.data;
  gpu.output(a.y);
  in_place ? void(a.x = a.y) : gpu.input(a.x);
  gpu.output(a.scale);
  cuda::unit_rows(a, gpu.stream());
  gpu.finish();
}

inline void unit_rows_grad(const UnitRowsGrad& call) {
  UnitRowsGrad a = call;
  a.check();
  Mirror gpu;
  const bool in_place = a.x_grad.data == a.y_grad.data;
  gpu.output(a.x_grad);
  in_place ? void(a.y_grad = a.x_grad) : gpu.input(a.y_grad);
  for (ConstArray* x : {&a.x, &a.x_scale, &a.scale}) gpu.input(*x);
  cuda::unit_rows_grad(a, gpu.stream());
  gpu.finish();
}

// `run` on copies of these arrays, and of the seed where there is one.
template <class Op>
void mirrored(Op a, void (*run)(const Op&, cuda::Stream&),
              std::initializer_list<ConstArray Op::*> inputs,
              std::initializer_list<Array Op::*> outputs) {
  a.check();
  Mirror gpu;
  for (const auto x : inputs) gpu.input(a.*x);
  for (const auto x : outputs) gpu.output(a.*x);
  if constexpr (requires { a.dropout; }) a.dropout.seed = gpu.input(a.dropout.seed, 1);
  run(a, gpu.stream());
  gpu.finish();
}

inline void residual_norm(const ResidualNorm& a) {
  using Op = ResidualNorm;
  mirrored(a, cuda::residual_norm, {&Op::x, &Op::branch, &Op::bias},
           {&Op::sum, &Op::norm, &Op::scale});
}
inline void residual_norm_grad(const ResidualNormGrad& a) {
  using Op = ResidualNormGrad;
  mirrored(a, cuda::residual_norm_grad, {&Op::norm, &Op::scale, &Op::sum_grad, &Op::norm_grad},
           {&Op::x_grad, &Op::branch_grad, &Op::bias_grad});
}
inline void column_sums(const ColumnSums& a) {
  mirrored(a, cuda::column_sums, {&ColumnSums::x}, {&ColumnSums::out});
}

}  // namespace backend
}  // namespace yoso

#endif
