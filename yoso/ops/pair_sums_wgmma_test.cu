// The two engines of pair_sums_mma.h multiply, weigh and add in the same order: what one is tested
// for (expected_attention_cuda_test on this GPU) holds for the other.
// SPDX-License-Identifier: Apache-2.0
#define YOSO_TEST_CUDA
#include <gtest/gtest.h>

#include "yoso/ops/expected_attention_testing.h"
#include "yoso/ops/pair_sums_wgmma.h"

namespace yoso {
namespace {

using namespace testing;  // NOLINT: yoso::testing
using cuda::GpuSide, cuda::PairSide, cuda::PairSums, cuda::Stream, cuda::Sum;

// Writes query_grad with kRows, value_grad with kValues, and value_grad and key_grad with kBoth.
template <template <class, int, Sum> class Engine, Sum kSum>
void run_on(const ExpectedAttentionGrad& a, Stream& stream) {
  constexpr const char* kName = "pair_sums";
  const Stream::Scope scope(stream);
  const GpuSide query_side(a.query_rows, a.queries.batch, a.queries.rows, stream);
  const GpuSide key_side(a.key_rows, a.keys.batch, a.keys.rows, stream);
  const PairSide queries =
      pair_side(kName, query_side, a.queries, a.query_scale, a.out_grad, stream);
  const PairSide keys = pair_side(kName, key_side, a.keys, a.key_scale, a.values, stream);
  constexpr bool kByQuery = kSum == Sum::kRows;
  const PairSums sums{.fixed = kByQuery ? queries : keys,
                      .moving = kByQuery ? keys : queries,
                      .weight = {a.code_bits, a.gradient},
                      .values_out = a.value_grad,
                      .rows_out = kByQuery ? a.query_grad : a.key_grad};
  clear_masked_rows(kName, queries, a.query_grad, stream);
  clear_masked_rows(kName, keys, a.key_grad, stream);
  clear_masked_rows(kName, keys, a.value_grad, stream);
  with_tile(sums, [&]<class T, int kWidth>() {
    if constexpr (kWidth <= 64) {
      run_engine<Engine<T, kWidth, kSum>>(kName, sums, kByQuery ? query_side : key_side, stream);
    }
  });
}

struct Results {
  Buffer query_grad, key_grad, value_grad;

  template <template <class, int, Sum> class Engine, Sum kSum>
  static Results of(const Inputs& in, double code_bits, Gradient gradient) {
    const auto zeros = [](const Buffer& x) {
      Buffer y(x.dtype(), x.batch(), x.heads(), x.rows(), x.cols());
      y.fill([](int64_t, int64_t, int64_t, int64_t) { return 0; });
      return y;
    };
    Results r{zeros(in.queries), zeros(in.keys), zeros(in.values)};
    backend::gradient(
        ExpectedAttentionGrad{in.queries.array(), in.keys.array(), in.query_scale.array(),
                              in.key_scale.array(), in.values.array(), in.out_grad.array(),
                              r.query_grad.array(), r.key_grad.array(), r.value_grad.array(),
                              code_bits, gradient, in.query_side.rows(), in.key_side.rows()},
        run_on<Engine, kSum>);
    return r;
  }
};

class Engines : public ::testing::TestWithParam<Shape> {
 protected:
  void SetUp() override {
    if (!cuda::has_wgmma()) GTEST_SKIP() << "one engine on this GPU";
  }

  template <Sum kSum>
  static void expect_equal_sums() {
    for (const DType dtype : {DType::kBFloat16, DType::kFloat16}) {
      for (const Scales scales : {Scales::kAbsent, Scales::kPresent}) {
        const Inputs in(GetParam(), dtype, scales);
        for (const Gradient gradient : {Gradient::kSurrogate, Gradient::kTrue}) {
          for (const double code_bits : {8.0, 7.25, 5.0}) {
            const auto mma = Results::of<cuda::MmaEngine, kSum>(in, code_bits, gradient);
            const auto wgmma = Results::of<cuda::WgmmaEngine, kSum>(in, code_bits, gradient);
            EXPECT_TRUE(equal(wgmma.query_grad, mma.query_grad));
            EXPECT_TRUE(equal(wgmma.key_grad, mma.key_grad));
            EXPECT_TRUE(equal(wgmma.value_grad, mma.value_grad));
          }
        }
      }
    }
  }
};

TEST_P(Engines, GiveTheSameSumsOfValues) { expect_equal_sums<Sum::kValues>(); }
TEST_P(Engines, GiveTheSameSumsOfRows) { expect_equal_sums<Sum::kRows>(); }
TEST_P(Engines, GiveTheSameSumsOfBoth) { expect_equal_sums<Sum::kBoth>(); }

// Several blocks of each engine, and tails of its tiles.
std::vector<Shape> shapes() {
  std::vector<Shape> shapes;
  for (const auto& [width, value_width] : {std::pair{32, 32}, {64, 64}, {24, 56}, {8, 16}}) {
    for (const Mask mask : {Mask::kNone, Mask::kRandom}) {
      shapes.push_back({.query_heads = 2,
                        .key_heads = 1,
                        .queries = 413,
                        .keys = 397,
                        .width = width,
                        .value_width = value_width,
                        .mask = mask});
    }
    shapes.push_back({.query_heads = 2,
                      .queries = 210,
                      .keys = 303,
                      .width = width,
                      .value_width = value_width,
                      .layout = Layout::kRowsFirst,
                      .query_lengths = {1, 0, 9, 200},
                      .key_lengths = {0, 7, 96, 200}});
  }
  return shapes;
}
INSTANTIATE_TEST_SUITE_P(Shapes, Engines, ::testing::ValuesIn(shapes()), shape_name);

}  // namespace
}  // namespace yoso
