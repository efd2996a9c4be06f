// yoso_attention on a GPU against the same call on the CPU in double, and how it behaves among
// torch's streams, graphs, autocast and memory.
// SPDX-License-Identifier: Apache-2.0
#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/autocast_mode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gmock/gmock.h>
#include <torch/csrc/autograd/autograd.h>

#include <array>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "yoso/core/check.h"
#include "yoso/cuda/launch.h"
#include "yoso/torch/attention.h"
#include "yoso/torch/convolution.h"
#include "yoso/torch/cuda_graphs.h"
#include "yoso/torch/dispatch.h"
#include "yoso/torch/load_cuda.h"

namespace yoso {
namespace {

using at::Tensor;
using testing::HasSubstr;
using testing::StartsWith;

class GpuEnvironment : public testing::Environment {
  void SetUp() override {
    if (!load_cuda().empty()) GTEST_SKIP() << "no GPU to test on: " << load_cuda();
  }
};
const auto* const kGpuEnvironment = testing::AddGlobalTestEnvironment(new GpuEnvironment);

const at::Device kGpu(at::kCUDA, 0);

void wait() { at::accelerator::synchronizeDevice(0); }

c10::Stream new_stream() { return c10::impl::VirtualGuardImpl(at::kCUDA).getNewStream(kGpu); }

YosoOptions expected(double code_bits = 8) {
  return {.mode = Mode::kExpected, .code_bits = code_bits};
}
YosoOptions sampled(double code_bits = 8, int64_t num_hashes = 32) {
  return {.mode = Mode::kSampled, .num_hashes = num_hashes, .code_bits = code_bits, .seed = 7};
}

struct Shape {
  int64_t batch, queries, keys, query_heads, key_heads, width, value_width;
};

// Small integers: exact in every type, and so are their Hadamard transforms, so codes agree to the
// bit. Queries and keys lean towards one direction, so that there are collisions.
YosoInputs integer_inputs(const Shape& s) {
  const auto integers = [](int64_t most, at::IntArrayRef sizes) {
    return at::randint(-most, most + 1, sizes, at::kDouble);
  };
  const Tensor direction = integers(6, {s.width});
  YosoInputs in;
  in.query = integers(3, {s.batch, s.queries, s.query_heads, s.width}) + direction;
  in.key = integers(3, {s.batch, s.keys, s.key_heads, s.width}) + direction;
  in.value = integers(4, {s.batch, s.keys, s.key_heads, s.value_width});
  return in;
}

Tensor integer_grad(const Shape& s) {
  return at::randint(-4, 5, {s.batch, s.queries, s.query_heads, s.value_width}, at::kDouble);
}

// Inputs in `type` on the GPU; offsets stay.
YosoInputs on_gpu(YosoInputs in, at::ScalarType type) {
  for (Tensor* x : {&in.query, &in.key, &in.value, &in.conv_weight})
    if (x->defined()) *x = x->to(kGpu, type);
  for (Tensor* x : {&in.query_mask, &in.key_mask})
    if (x->defined()) *x = x->to(kGpu);
  return in;
}

struct Result {
  Tensor out, query_grad, key_grad, value_grad;

  std::vector<std::pair<const char*, Tensor>> all() const {
    return {{"out", out}, {"query", query_grad}, {"key", key_grad}, {"value", value_grad}};
  }
};

Result run(YosoInputs in, const YosoOptions& options, const Tensor& out_grad) {
  for (Tensor* x : {&in.query, &in.key, &in.value}) *x = x->detach().requires_grad_(true);
  const Tensor out = yoso_attention(in, options);
  const auto grads = torch::autograd::grad({out}, {in.query, in.key, in.value},
                                           {out_grad.to(out.device(), out.scalar_type())});
  return {out.detach(), grads[0], grads[1], grads[2]};
}

bool same_bits(const Result& a, const Result& b) {
  for (size_t i = 0; i < 4; ++i)
    if (!at::equal(a.all()[i].second, b.all()[i].second)) return false;
  return true;
}

// Frobenius norm of the difference over that of `b`.
double relative_difference(const Tensor& a, const Tensor& b) {
  if (b.numel() == 0) return 0;
  const Tensor difference = a.cpu().to(at::kDouble) - b;
  return (difference.norm() / b.norm().clamp_min(1e-30)).item<double>();
}

// Every output is a chain of at most three sums of `terms` terms in float, each of which may lose
// terms * eps of the sum of magnitudes; cancellation within the sums and in the normalisation's
// gradient amplifies by some units (16 granted). A 16-bit type also rounds outputs and the
// normalised rows that the backward starts from.
double bound(const Shape& s, const YosoOptions& options, at::ScalarType type) {
  const double type_eps = type == at::kBFloat16 ? 0x1p-8 : type == at::kHalf ? 0x1p-11 : 0;
  const int64_t rows =
      std::max(s.queries, s.keys) * s.query_heads / std::max<int64_t>(s.key_heads, 1);
  const double terms =
      options.mode == Mode::kSampled
          ? static_cast<double>(rows * options.num_hashes)
          : static_cast<double>(rows) + options.code_bits * static_cast<double>(s.width);
  return 16 * ((terms + 2.0 * static_cast<double>(s.width)) * 0x1p-24 + type_eps / 4);
}

Tensor prefix_mask(std::vector<int64_t> lengths, int64_t tokens) {
  return at::arange(tokens).unsqueeze(0) < at::tensor(lengths).unsqueeze(1);
}
Tensor masked_rows(const Tensor& mask) { return mask.logical_not().unsqueeze(-1).unsqueeze(-1); }

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "no error";
}

class YosoAttentionOnGpuTest : public testing::Test {
 protected:
  void SetUp() override { at::manual_seed(20261); }
};

TEST_F(YosoAttentionOnGpuTest, MatchesTheCpu) {
  const std::vector<Shape> shapes = {{1, 1, 1, 1, 1, 4, 4},    {2, 7, 7, 2, 2, 8, 5},
                                     {2, 19, 37, 4, 2, 16, 3}, {1, 300, 200, 2, 1, 64, 64},
                                     {1, 0, 4, 1, 1, 4, 4},    {1, 4, 0, 1, 1, 4, 4},
                                     {0, 3, 3, 2, 1, 4, 4},    {1, 500, 500, 1, 1, 128, 128}};
  for (const Shape& shape : shapes) {
    const YosoInputs in = integer_inputs(shape);
    const Tensor out_grad = integer_grad(shape);
    for (YosoOptions options : {expected(), expected(2.5), sampled(), sampled(11, 9)}) {
      for (const bool normalize : {true, false}) {
        // A normalised row of one key does not depend on its weight: gradients are noise around 0.
        if (normalize && shape.keys == 1) continue;
        options.normalize_output = normalize;
        const Result cpu = run(in, options, out_grad);
        for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
          const Result gpu = run(on_gpu(in, type), options, out_grad);
          for (size_t i = 0; i < 4; ++i) {
            const auto [name, got] = gpu.all()[i];
            ASSERT_TRUE(got.is_cuda());
            ASSERT_EQ(got.scalar_type(), type);
            ASSERT_EQ(got.sizes(), cpu.all()[i].second.sizes());
            EXPECT_LE(relative_difference(got, cpu.all()[i].second), bound(shape, options, type))
                << name << " of " << in.query.sizes() << " " << in.key.sizes() << " " << type
                << (options.mode == Mode::kSampled ? " sampled" : " expected") << " T "
                << options.code_bits << (normalize ? " normalised" : "");
          }
        }
      }
    }
  }
}

TEST_F(YosoAttentionOnGpuTest, CodesAreThoseOfTheCpu) {
  const Tensor x = integer_inputs({3, 257, 1, 4, 1, 48, 1}).query.to(at::kFloat);
  for (const int64_t bits : {1, 5, 8, 11, 16}) {
    for (const int64_t projection_heads : {4, 2}) {
      const auto codes = [&](const Tensor& rows) {
        return ops::hash(rows, 19, bits, 5, Projection::kHadamard, projection_heads);
      };
      const Tensor cpu = codes(x);
      for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
        const Tensor gpu = codes(x.to(kGpu, type)).cpu();
        ASSERT_EQ(gpu.scalar_type(), cpu.scalar_type());
        EXPECT_TRUE(at::equal(gpu.to(at::kInt), cpu.to(at::kInt))) << bits << " bits " << type;
      }
    }
  }
}

TEST_F(YosoAttentionOnGpuTest, MasksHideRowsWhateverTheyHold) {
  const Shape shape{3, 40, 33, 2, 1, 16, 8};
  YosoInputs in = integer_inputs(shape);
  in.query_mask = prefix_mask({40, 11, 0}, 40);
  in.key_mask = prefix_mask({20, 0, 33}, 33);
  Tensor out_grad = integer_grad(shape);
  for (const YosoOptions& options : {expected(), sampled()}) {
    const Result cpu = run(in, options, out_grad);
    for (const auto type : {at::kFloat, at::kBFloat16}) {
      YosoInputs poisoned = on_gpu(in, type);
      const double nan = std::numeric_limits<double>::quiet_NaN();
      poisoned.query.masked_fill_(masked_rows(poisoned.query_mask), nan);
      poisoned.key.masked_fill_(masked_rows(poisoned.key_mask), nan);
      poisoned.value.masked_fill_(masked_rows(poisoned.key_mask), nan);
      const Result gpu = run(poisoned, options, out_grad);
      for (size_t i = 0; i < 4; ++i) {
        EXPECT_LE(relative_difference(gpu.all()[i].second, cpu.all()[i].second),
                  bound(shape, options, type))
            << gpu.all()[i].first << " " << type;
      }
    }
  }
}

TEST_F(YosoAttentionOnGpuTest, RaggedSequencesMatchTheCpu) {
  const Shape all{1, 90, 75, 2, 2, 32, 32};
  YosoInputs in = integer_inputs(all);
  for (Tensor* x : {&in.query, &in.key, &in.value}) *x = x->squeeze(0);
  in.query_offsets = at::tensor(std::vector<int64_t>{0, 5, 5, 80, 90});
  in.key_offsets = at::tensor(std::vector<int64_t>{0, 9, 40, 74, 75});
  const Tensor out_grad = integer_grad(all).squeeze(0);
  for (const YosoOptions& options : {expected(), sampled()}) {
    const Result cpu = run(in, options, out_grad);
    for (const auto type : {at::kFloat, at::kBFloat16}) {
      const Result gpu = run(on_gpu(in, type), options, out_grad);
      for (size_t i = 0; i < 4; ++i) {
        EXPECT_LE(relative_difference(gpu.all()[i].second, cpu.all()[i].second),
                  bound(all, options, type))
            << gpu.all()[i].first << " " << type;
      }
    }
  }
}

// The last sequence ends before the last row; what follows holds anything and gives 0.
struct Ragged {
  YosoInputs in;
  Tensor out_grad;
};
Ragged ragged_inputs(const Shape& s, int64_t after) {
  const Shape longer{1,           s.queries + after, s.keys + after, s.query_heads,
                     s.key_heads, s.width,           s.value_width};
  Ragged r{integer_inputs(longer), integer_grad(longer).squeeze(0)};
  for (Tensor* x : {&r.in.query, &r.in.key, &r.in.value}) *x = x->squeeze(0);
  return r;
}

Ragged without(Ragged r, int64_t after) {
  for (Tensor* x : {&r.in.query, &r.in.key, &r.in.value, &r.out_grad})
    *x = x->narrow(0, 0, x->size(0) - after);
  for (Tensor* x : {&r.in.query_mask, &r.in.key_mask})
    if (x->defined()) *x = x->narrow(0, 0, x->size(0) - after);
  return r;
}

// Long sequences and short ones, empty ones, buckets dense, sparse and counted; longest as it is,
// and larger.
TEST_F(YosoAttentionOnGpuTest, OffsetsOnTheGpuGiveTheBitsOfThoseOnTheCpu) {
  const std::vector<int64_t> queries = {0, 70, 70, 1370, 1400, 4100};
  const std::vector<int64_t> keys = {0, 90, 95, 1100, 1101, 4000};
  constexpr int64_t kAfter = 37;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const int64_t width : {64, 24}) {
    const Shape shape{1, queries.back(), keys.back(), 2, 1, width, width};
    Ragged all = ragged_inputs(shape, kAfter);
    all.in.query_offsets = at::tensor(queries);
    all.in.key_offsets = at::tensor(keys);
    for (const bool masked : {false, true}) {
      if (masked) {
        all.in.query_mask = at::rand({shape.queries + kAfter}) < 0.7;
        all.in.key_mask = at::rand({shape.keys + kAfter}) < 0.7;
      }
      const Ragged real = without(all, kAfter);
      YosoOptions subset = sampled();
      subset.backward_hashes = 8;
      YosoOptions by_true = sampled(11, 9);
      by_true.gradient = Gradient::kTrue;
      for (const YosoOptions& options :
           {expected(), sampled(), sampled(11, 9), sampled(13, 40), subset, by_true}) {
        for (const auto type : {at::kFloat, at::kBFloat16}) {
          const Result want = run(on_gpu(real.in, type), options, real.out_grad);
          for (const int64_t longest : {2899, 5000}) {
            YosoInputs in = on_gpu(all.in, type);
            for (Tensor* x : {&in.query, &in.key, &in.value})
              x->narrow(0, x->size(0) - kAfter, kAfter).fill_(nan);
            for (Tensor* x : {&in.query_offsets, &in.key_offsets}) *x = x->to(kGpu);
            in.longest = longest;
            const Result got = run(in, options, all.out_grad);
            for (size_t i = 0; i < 4; ++i) {
              const auto [name, x] = got.all()[i];
              const int64_t rows = x.size(0) - kAfter;
              EXPECT_TRUE(at::equal(x.narrow(0, 0, rows), want.all()[i].second))
                  << name << " " << type << " " << width << " T " << options.code_bits << " masked "
                  << masked << " longest " << longest;
              EXPECT_EQ(x.narrow(0, rows, kAfter).count_nonzero().item<int64_t>(), 0) << name;
            }
          }
        }
      }
    }
  }
}

TEST_F(YosoAttentionOnGpuTest, AGraphReadsTheOffsetsOfEachReplay) {
  const Shape shape{1, 700, 700, 2, 2, 64, 64};
  Ragged all = ragged_inputs(shape, 0);
  const Tensor out_grad = all.out_grad.to(kGpu, at::kBFloat16);
  YosoInputs in = on_gpu(all.in, at::kBFloat16);
  in.longest = 700;
  in.query_offsets = in.key_offsets = at::tensor(std::vector<int64_t>{0, 100, 700}).to(kGpu);
  for (const YosoOptions& options : {expected(), sampled()}) {
    run(in, options, out_grad);
    Result captured;
    const auto graph = make_cuda_graphs(0)->capture([&] { captured = run(in, options, out_grad); });
    for (const int64_t middle : {0, 333, 650}) {
      in.query_offsets.copy_(at::tensor(std::vector<int64_t>{0, middle, 690}));
      graph->replay();
      EXPECT_TRUE(same_bits(captured, run(in, options, out_grad))) << middle;
    }
  }
}

// Whole numbers whose sums have at most 8 bits are exact in every type and order. The filter is
// wide, as in training under autocast.
TEST_F(YosoAttentionOnGpuTest, ConvolutionOfTokensIsExactInEveryType) {
  for (const auto type : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16}) {
    for (const int64_t tokens : {1, 63, 64, 65, 300}) {
      const Tensor value = at::randint(0, 2, {3, tokens, 2, 32}, at::kDouble);
      const Tensor weight = at::randint(-1, 2, {2, 33}, at::kDouble);
      const auto run = [&](const Tensor& x, const Tensor& w, bool autocast) {
        const Tensor values = x.detach().requires_grad_(true);
        const Tensor filters = w.detach().requires_grad_(true);
        at::autocast::set_autocast_enabled(at::kCUDA, autocast);
        const Tensor out = convolve_tokens(values, filters);
        out.backward(at::ones_like(out).tril());
        at::autocast::set_autocast_enabled(at::kCUDA, false);
        return std::array{out.detach(), values.grad(), filters.grad()};
      };
      const auto expected = run(value, weight, false);
      for (const bool autocast : {false, true}) {
        const auto got = run(value.to(at::kCUDA, type), weight.to(at::kCUDA, at::kFloat), autocast);
        EXPECT_EQ(got[0].scalar_type(), type);
        EXPECT_TRUE(at::equal(got[0].to(at::kCPU, at::kDouble), expected[0])) << tokens << type;
        EXPECT_TRUE(at::equal(got[1].to(at::kCPU, at::kDouble), expected[1])) << tokens << type;
        // Sums over all tokens are larger, and rounded twice: those of a band, and theirs.
        const double bound = type == at::kDouble || type == at::kFloat ? 0 : 2 * 0x1p-8;
        EXPECT_LE(relative_difference(got[2].to(at::kCPU, at::kDouble), expected[2]), bound)
            << tokens << type;
      }
    }
  }
}

TEST_F(YosoAttentionOnGpuTest, ConvolutionMatchesTheCpu) {
  const Shape shape{2, 33, 33, 2, 2, 16, 16};
  YosoInputs in = integer_inputs(shape);
  in.query_mask = in.key_mask = prefix_mask({33, 20}, 33);
  in.conv_weight = at::randint(-2, 3, {2, 9}, at::kDouble);
  const Tensor out = yoso_attention(on_gpu(in, at::kBFloat16), sampled());
  // Rounded three times: the attention, the convolution (integers below 2^8 are exact) and the sum.
  EXPECT_LE(relative_difference(out, yoso_attention(in, sampled())), 3 * 0x1p-8);
}

TEST_F(YosoAttentionOnGpuTest, TheSameCallGivesTheSameBits) {
  const Shape shape{2, 1500, 1500, 2, 2, 64, 64};
  const YosoInputs in = integer_inputs(shape);
  const Tensor out_grad = integer_grad(shape);
  for (const YosoOptions& options : {expected(), sampled()}) {
    for (const auto type : {at::kFloat, at::kBFloat16}) {
      const YosoInputs inputs = on_gpu(in, type);
      const Result first = run(inputs, options, out_grad);
      for (int i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(run(inputs, options, out_grad), first));
    }
  }
}

TEST_F(YosoAttentionOnGpuTest, AutocastCastsTheInputs) {
  YosoInputs in = on_gpu(integer_inputs({2, 70, 70, 2, 2, 64, 64}), at::kFloat);
  in.value = in.value + 0.001;  // bfloat16 rounds it
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    for (const YosoOptions& options : {expected(), sampled()}) {
      at::autocast::set_autocast_enabled(at::kCUDA, true);
      at::autocast::set_autocast_dtype(at::kCUDA, type);
      const Tensor out = yoso_attention(in, options);
      at::autocast::set_autocast_enabled(at::kCUDA, false);
      at::autocast::clear_cache();
      EXPECT_EQ(out.scalar_type(), type);
      EXPECT_TRUE(at::equal(out, yoso_attention(on_gpu(in, type), options)));
    }
  }
}

// Inputs become right on a stream only after a product that takes a while: work on another stream
// would read what was there before.
TEST_F(YosoAttentionOnGpuTest, RunsOnTheCurrentStream) {
  const Shape shape{1, 600, 600, 2, 2, 64, 64};
  const YosoInputs right = on_gpu(integer_inputs(shape), at::kBFloat16);
  const Tensor out_grad = integer_grad(shape);
  const Tensor slow = at::ones({8192, 8192}, at::TensorOptions(kGpu).dtype(at::kFloat));
  for (const YosoOptions& options : {expected(), sampled()}) {
    const Result before = run(right, options, out_grad);
    YosoInputs late = right;
    for (Tensor* x : {&late.query, &late.key, &late.value}) *x = at::zeros_like(*x);
    wait();
    Result after;
    {
      const c10::StreamGuard guard(new_stream());
      Tensor product = slow;
      for (int i = 0; i < 4; ++i) product = at::mm(product, slow);
      late.query.copy_(right.query);
      late.key.copy_(right.key);
      late.value.copy_(right.value);
      after = run(late, options, out_grad);
    }
    wait();
    EXPECT_TRUE(same_bits(before, after));
  }
}

// A capture fails when anything in it waits for the GPU.
TEST_F(YosoAttentionOnGpuTest, AGraphReplaysWhatItCaptured) {
  const Shape shape{2, 300, 300, 2, 2, 64, 64};
  const YosoInputs first = on_gpu(integer_inputs(shape), at::kBFloat16);
  const YosoInputs second = on_gpu(integer_inputs(shape), at::kBFloat16);
  const Tensor out_grad = integer_grad(shape).to(kGpu, at::kBFloat16);
  for (const bool ragged : {false, true}) {
    for (const YosoOptions& options : {expected(), sampled()}) {
      const auto view = [&](const YosoInputs& in) {
        YosoInputs shaped = in;
        if (!ragged) return shaped;
        for (Tensor* x : {&shaped.query, &shaped.key, &shaped.value}) *x = x->flatten(0, 1);
        shaped.query_offsets = shaped.key_offsets =
            at::tensor(std::vector<int64_t>{0, 100, 100, 600});
        return shaped;
      };
      const Tensor grad = ragged ? out_grad.flatten(0, 1) : out_grad;
      YosoInputs in = view(first);
      for (Tensor* x : {&in.query, &in.key, &in.value}) *x = x->clone();
      const c10::Stream stream = new_stream();
      const auto handle = static_cast<cudaStream_t>(stream.native_handle());
      wait();
      Result captured;
      cudaGraph_t graph = nullptr;
      cudaGraphExec_t replay = nullptr;
      {
        const c10::StreamGuard guard(stream);
        for (int i = 0; i < 2; ++i) run(in, options, grad);  // memory that the capture can reuse
        wait();
        cuda::throw_if_failed("capture",
                              cudaStreamBeginCapture(handle, cudaStreamCaptureModeRelaxed));
        captured = run(in, options, grad);
        cuda::throw_if_failed("capture", cudaStreamEndCapture(handle, &graph));
        cuda::throw_if_failed("instantiate", cudaGraphInstantiate(&replay, graph, 0));
        const YosoInputs other = view(second);
        in.query.copy_(other.query);
        in.key.copy_(other.key);
        in.value.copy_(other.value);
        cuda::throw_if_failed("replay", cudaGraphLaunch(replay, handle));
      }
      wait();
      EXPECT_TRUE(same_bits(captured, run(view(second), options, grad)))
          << (ragged ? "ragged" : "padded") << " "
          << (options.mode == Mode::kSampled ? "sampled" : "expected");
      cudaGraphExecDestroy(replay);
      cudaGraphDestroy(graph);
    }
  }
}

// Codes, output and gradients, backward_hashes included, whose block is then drawn on the GPU.
TEST_F(YosoAttentionOnGpuTest, ASeedOnTheGpuGivesTheHashesOfTheSameSeedOnTheCpu) {
  for (const int64_t tokens : {int64_t{61}, int64_t{640}}) {
    const Shape shape{2, tokens, tokens, 2, 1, 64, 64};
    const YosoInputs in = on_gpu(integer_inputs(shape), at::kBFloat16);
    const Tensor out_grad = integer_grad(shape).to(kGpu, at::kBFloat16);
    for (const double code_bits : {8.0, 11.0}) {
      for (const std::optional<int64_t> backward_hashes :
           {std::optional<int64_t>(), {1}, {8}, {32}}) {
        for (int64_t number = 0; number < 6; ++number) {
          YosoOptions options = sampled(code_bits);
          options.backward_hashes = backward_hashes;
          const auto all = [&](const Tensor& seed) {
            const ops::Attention forward =
                ops::attention(in.query, in.key, in.value, {}, seed, options);
            const auto [query, key, value] = ops::attention_backward(
                out_grad, in.query, in.key, in.value, forward, {}, seed, options, true, true);
            return std::vector<Tensor>{
                forward.out, forward.query_codes, forward.key_codes, query, key, value};
          };
          const Tensor seed = at::scalar_tensor(number * 0x123456789abcdef, at::kLong);
          const std::vector<Tensor> want = all(seed), got = all(seed.to(kGpu));
          for (size_t i = 0; i < want.size(); ++i)
            EXPECT_TRUE(at::equal(got[i], want[i])) << i << " of " << tokens << " tokens";
        }
      }
    }
  }
}

TEST_F(YosoAttentionOnGpuTest, AGraphDrawsOtherHashesInEachReplay) {
  const Shape shape{1, 300, 300, 2, 2, 64, 64};
  const YosoInputs in = on_gpu(integer_inputs(shape), at::kBFloat16);
  const Tensor out_grad = integer_grad(shape).to(kGpu, at::kBFloat16);
  YosoOptions options = sampled();
  options.seed.reset();
  options.backward_hashes = 8;
  run(in, options, out_grad);
  Result captured;
  const auto graph = make_cuda_graphs(0)->capture([&] { captured = run(in, options, out_grad); });
  at::manual_seed(5);
  std::vector<Result> eager;
  for (int i = 0; i < 3; ++i) eager.push_back(run(in, options, out_grad));
  EXPECT_FALSE(same_bits(eager[0], eager[1]));
  at::manual_seed(5);
  for (const Result& result : eager) {
    graph->replay();
    EXPECT_TRUE(same_bits(captured, result));
  }
}

// What was drawn and allocated goes on as ever after a capture that could not be.
TEST_F(YosoAttentionOnGpuTest, ACaptureThatFailsLeavesNothing) {
  const auto graphs = make_cuda_graphs(0);
  const Tensor x = at::rand({100}, kGpu);
  EXPECT_THROW(graphs->capture([] { fail("stop"); }), Error);
  const auto waits = [&] { (x + at::rand({100}, kGpu)).sum().item<float>(); };
  EXPECT_THAT(message_of([&] { graphs->capture(waits); }), HasSubstr("captur"));
  at::manual_seed(5);
  const Tensor first = at::rand({100}, kGpu);
  at::manual_seed(5);
  EXPECT_TRUE(at::equal(first, at::rand({100}, kGpu)));
  Tensor y;
  const auto graph = graphs->capture([&] { y = x * 2; });
  graph->replay();
  EXPECT_TRUE(at::equal(y, x * 2));
}

TEST_F(YosoAttentionOnGpuTest, ScratchMemoryGoesBack) {
  const Shape shape{2, 500, 500, 2, 2, 64, 64};
  const YosoInputs in = on_gpu(integer_inputs(shape), at::kBFloat16);
  const Tensor out_grad = integer_grad(shape).to(kGpu, at::kBFloat16);
  const auto allocated = [] {
    return at::accelerator::getDeviceStats(0).allocated_bytes[0].current;
  };
  for (const YosoOptions& options : {expected(), sampled()}) {
    run(in, options, out_grad);
    const auto before = allocated();
    run(in, options, out_grad);
    EXPECT_EQ(allocated(), before);
  }
}

TEST_F(YosoAttentionOnGpuTest, EveryGpuIsServed) {
  if (at::getNumGPUs() < 2) GTEST_SKIP() << "one GPU";
  const Shape shape{1, 100, 100, 2, 2, 64, 64};
  const YosoInputs in = on_gpu(integer_inputs(shape), at::kBFloat16);
  YosoInputs other = in;
  for (Tensor* x : {&other.query, &other.key, &other.value}) *x = x->to(at::Device(at::kCUDA, 1));
  const Tensor out_grad = integer_grad(shape);
  for (const YosoOptions& options : {expected(), sampled()}) {
    const Result first = run(in, options, out_grad), second = run(other, options, out_grad);
    EXPECT_EQ(second.out.device(), at::Device(at::kCUDA, 1));
    for (size_t i = 0; i < 4; ++i)
      EXPECT_TRUE(at::equal(first.all()[i].second.cpu(), second.all()[i].second.cpu()));
  }
}

TEST_F(YosoAttentionOnGpuTest, AutoDoesNotLookAtMasks) {
  YosoOptions options = sampled(8, 1);
  options.mode = Mode::kAuto;
  YosoInputs in = on_gpu(integer_inputs({1, 60000, 60000, 1, 1, 4, 4}), at::kBFloat16);
  in.query_mask = in.key_mask = prefix_mask({3}, 60000).to(kGpu);
  EXPECT_TRUE(at::equal(yoso_attention(in, options), yoso_attention(in, sampled(8, 1))));
}

TEST_F(YosoAttentionOnGpuTest, NamesWhatCannotBe) {
  const Shape shape{2, 5, 6, 2, 2, 8, 4};
  const YosoInputs on_cpu = integer_inputs(shape);
  EXPECT_EQ(message_of([&] { yoso_attention(on_gpu(on_cpu, at::kDouble), sampled()); }),
            "hash: x is float64, expected float32, bfloat16 or float16 on a GPU");
  EXPECT_THAT(message_of([&] { yoso_attention(on_gpu(on_cpu, at::kDouble), expected()); }),
              HasSubstr("float64, expected float32, bfloat16 or float16 on a GPU"));
  YosoInputs in = on_gpu(on_cpu, at::kFloat);
  in.key = in.key.cpu();
  EXPECT_EQ(message_of([&] { yoso_attention(in, sampled()); }),
            "yoso_attention: key is cpu, expected cuda:0, the device of query");
  in = on_gpu(on_cpu, at::kFloat);
  in.key_mask = at::ones({2, 6}, at::kBool);
  EXPECT_EQ(message_of([&] { yoso_attention(in, sampled()); }),
            "yoso_attention: key_mask is cpu, expected cuda:0");
  in = on_gpu(on_cpu, at::kFloat);
  for (Tensor* x : {&in.query, &in.key, &in.value}) *x = x->flatten(0, 1);
  in.query_offsets = at::tensor(std::vector<int64_t>{0, 5, 10}).to(kGpu);
  in.key_offsets = at::tensor(std::vector<int64_t>{0, 6, 12});
  EXPECT_EQ(
      message_of([&] { yoso_attention(in, sampled()); }),
      "yoso_attention: longest is absent, expected the rows of the longest sequence, or more, "
      "with offsets on a GPU");
  in.longest = 6;
  EXPECT_EQ(message_of([&] { yoso_attention(in, sampled()); }),
            "yoso_attention: key_offsets is cpu, expected cuda:0 as query_offsets");
  in.key_offsets = in.key_offsets.to(kGpu);
  in.longest = -1;
  EXPECT_EQ(message_of([&] { yoso_attention(in, sampled()); }),
            "yoso_attention: longest is -1, expected at least 0");
  EXPECT_EQ(message_of([&] {
              const Tensor codes = ops::hash(in.key, 4, 8, 1, Projection::kHadamard, 2);
              ops::bucket_attention(codes, codes, in.value.cpu(), 8, {}, at::kFloat);
            }),
            "bucket_attention: values is on cpu, expected cuda:0, the device of query_codes");
}

TEST_F(YosoAttentionOnGpuTest, WhatDoesNotFitIsAnOutOfMemoryError) {
  // 2^31 rows that are one row, 512 hashes of a byte each: a tebibyte of codes.
  const Tensor x = at::ones({1, 1, 1, 8}, at::TensorOptions(kGpu)).expand({1, 1ll << 31, 1, 8});
  try {
    ops::hash(x, 512, 8, 1, Projection::kHadamard, 1);
    FAIL() << "a tebibyte fits";
  } catch (const c10::OutOfMemoryError& error) {
    EXPECT_THAT(error.what_without_backtrace(),
                StartsWith("GPU memory: a result of [1, 1, 512, 2147483648] does not fit"));
  }
  // The next call is as ever.
  const YosoInputs in = on_gpu(integer_inputs({1, 9, 9, 1, 1, 8, 8}), at::kFloat);
  EXPECT_TRUE(at::isfinite(yoso_attention(in, sampled())).all().item<bool>());
}

}  // namespace
}  // namespace yoso
