// SPDX-License-Identifier: Apache-2.0
#include "yoso/torch/attention.h"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <gmock/gmock.h>

#include <limits>

#include "yoso/torch/crossover.h"
#include "yoso/torch/formula_testing.h"

namespace yoso {
namespace {

using at::Tensor;
using testing::formula;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

Tensor random(at::IntArrayRef sizes, at::ScalarType type = at::kDouble) {
  return at::randn(sizes, at::kDouble).to(type);
}

// The first lengths[b] tokens of sequence b are real.
Tensor prefix_mask(std::vector<int64_t> lengths, int64_t tokens) {
  return at::arange(tokens).unsqueeze(0) < at::tensor(lengths).unsqueeze(1);
}

YosoOptions expected(double code_bits = 4) {
  return {.mode = Mode::kExpected, .code_bits = code_bits};
}

YosoOptions sampled(double code_bits = 4, int64_t num_hashes = 9) {
  return {.mode = Mode::kSampled, .num_hashes = num_hashes, .code_bits = code_bits, .seed = 7};
}

double max_difference(const Tensor& a, const Tensor& b) {
  return a.numel() == 0 ? 0 : (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "no error";
}

class YosoAttentionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    at::set_num_threads(1);  // tiny tensors; ThreadsDoNotChangeTheBits takes more
    at::manual_seed(20260);
  }
};

// Sums of at most 40 terms below 10 in double, in another order than the formula's; the square
// root in acos near x = 1 turns an error of eps in x into one of sqrt(eps), but no random pair
// comes that close.
constexpr double kDoubleBound = 1e-11;

struct Shape {
  int64_t batch, queries, keys, query_heads, key_heads, width, value_width;
};

std::vector<Shape> shapes() {
  return {{1, 1, 1, 1, 1, 1, 1},   {2, 7, 7, 2, 2, 5, 3},   {2, 5, 9, 4, 2, 8, 16},
          {1, 33, 8, 3, 1, 17, 9}, {3, 2, 31, 2, 2, 64, 1}, {1, 0, 4, 1, 1, 4, 4},
          {1, 4, 0, 1, 1, 4, 4},   {0, 3, 3, 2, 1, 4, 4}};
}

YosoInputs random_inputs(const Shape& s, at::ScalarType type = at::kDouble) {
  YosoInputs in;
  in.query = random({s.batch, s.queries, s.query_heads, s.width}, type);
  in.key = random({s.batch, s.keys, s.key_heads, s.width}, type);
  in.value = random({s.batch, s.keys, s.key_heads, s.value_width}, type);
  return in;
}

TEST_F(YosoAttentionTest, MatchesTheFormula) {
  for (const Shape& shape : shapes()) {
    for (YosoOptions options : {expected(), expected(2.5), sampled(), sampled(11)}) {
      for (const bool normalize : {true, false}) {
        options.normalize_output = normalize;
        const YosoInputs in = random_inputs(shape);
        const Tensor out = yoso_attention(in, options);
        ASSERT_EQ(out.sizes(), (at::IntArrayRef{shape.batch, shape.queries, shape.query_heads,
                                                shape.value_width}));
        ASSERT_LE(max_difference(out, formula(in, options)), kDoubleBound)
            << in.query.sizes() << " T " << options.code_bits;
      }
    }
  }
}

TEST_F(YosoAttentionTest, MasksHideRowsWhateverTheyHold) {
  for (const YosoOptions& options : {expected(), sampled()}) {
    YosoInputs in = random_inputs({3, 6, 5, 2, 1, 8, 4});
    in.query_mask = prefix_mask({6, 3, 0}, 6);
    in.key_mask = prefix_mask({4, 0, 5}, 5);
    in.query.masked_fill_(in.query_mask.logical_not().unsqueeze(-1).unsqueeze(-1), kNaN);
    in.key.masked_fill_(in.key_mask.logical_not().unsqueeze(-1).unsqueeze(-1), kNaN);
    in.value.masked_fill_(in.key_mask.logical_not().unsqueeze(-1).unsqueeze(-1), kNaN);
    const Tensor out = yoso_attention(in, options);
    EXPECT_LE(max_difference(out, formula(in, options)), kDoubleBound);
    EXPECT_TRUE(out[0].abs().sum().item<double>() > 0);
    EXPECT_TRUE(at::equal(out[1], at::zeros_like(out[1]))) << "a sequence without keys";
    EXPECT_TRUE(at::equal(out[2], at::zeros_like(out[2]))) << "a sequence without queries";
  }
}

TEST_F(YosoAttentionTest, ConvolutionAddsFilteredValues) {
  for (const int64_t taps : {1, 3, 9}) {
    YosoInputs in = random_inputs({2, 5, 5, 2, 2, 8, 3});
    in.query_mask = in.key_mask = prefix_mask({5, 3}, 5);
    in.value[1].slice(0, 3).fill_(kNaN);
    in.conv_weight = random({2, taps});
    const Tensor out = yoso_attention(in, expected());
    EXPECT_LE(max_difference(out, formula(in, expected())), kDoubleBound) << taps << " taps";
  }
}

// A sequence's rows, forward and gradients, in the layout [rows, H, width] each.
struct Result {
  Tensor out, query_grad, key_grad, value_grad;
};

Result run(YosoInputs in, const YosoOptions& options, const Tensor& out_grad) {
  for (Tensor* x : {&in.query, &in.key, &in.value}) *x = x->detach().requires_grad_(true);
  const Tensor out = yoso_attention(in, options);
  out.backward(out_grad);
  return {out.detach(), in.query.grad(), in.key.grad(), in.value.grad()};
}

TEST_F(YosoAttentionTest, PaddedRaggedAndAloneGiveTheSameBits) {
  const std::vector<int64_t> lengths{5, 0, 33, 1};
  const int64_t longest = 40, heads = 2;
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    for (const YosoOptions& options : {expected(8), sampled(8, 32)}) {
      std::vector<Tensor> rows[4];  // query, key, value, gradient of the output
      for (const int64_t n : lengths) {
        for (const int i : {0, 1, 2, 3}) rows[i].push_back(random({n, heads, 16}, type));
      }
      const auto joined = [&](int i) { return at::cat(rows[i]); };
      const auto padded = [&](int i) {
        std::vector<Tensor> filled;
        for (const Tensor& x : rows[i]) {
          const double poison = i == 3 ? kNaN : kInfinity;
          filled.push_back(at::cat({x, at::full({longest - x.size(0), heads, 16}, poison, type)}));
        }
        return at::stack(filled);
      };
      YosoInputs in{.query = padded(0), .key = padded(1), .value = padded(2)};
      in.query_mask = in.key_mask = prefix_mask(lengths, longest);
      const Result from_padded = run(in, options, padded(3));
      in = {.query = joined(0), .key = joined(1), .value = joined(2)};
      in.query_offsets = in.key_offsets = at::tensor(std::vector<int64_t>{0, 5, 5, 38, 39});
      const Result from_ragged = run(in, options, joined(3));
      int64_t begin = 0;
      for (size_t b = 0; b < lengths.size(); begin += lengths[b++]) {
        in = {.query = rows[0][b].unsqueeze(0),
              .key = rows[1][b].unsqueeze(0),
              .value = rows[2][b].unsqueeze(0)};
        const Result alone = run(in, options, rows[3][b].unsqueeze(0));
        for (const auto member :
             {&Result::out, &Result::query_grad, &Result::key_grad, &Result::value_grad}) {
          const Tensor expected_bits = (alone.*member)[0];
          const Tensor pad = (from_padded.*member)[static_cast<int64_t>(b)];
          ASSERT_TRUE(at::equal(pad.slice(0, 0, lengths[b]), expected_bits)) << b << " " << type;
          ASSERT_TRUE(
              at::equal((from_ragged.*member).slice(0, begin, begin + lengths[b]), expected_bits))
              << b << " " << type;
          ASSERT_EQ(pad.slice(0, lengths[b]).abs().sum().item<double>(), 0) << "masked rows";
        }
      }
    }
  }
}

TEST_F(YosoAttentionTest, StridesDoNotChangeTheBits) {
  const Tensor fused = random({2, 9, 3, 2, 8}, at::kFloat);  // a joint projection
  const Tensor heads_first = random({2, 2, 9, 8}, at::kFloat);
  for (const YosoOptions& options : {expected(), sampled()}) {
    const YosoInputs views{.query = fused.select(2, 0),
                           .key = fused.select(2, 1),
                           .value = heads_first.transpose(1, 2)};
    const YosoInputs copies{.query = views.query.contiguous(),
                            .key = views.key.contiguous(),
                            .value = views.value.contiguous()};
    ASSERT_FALSE(views.query.is_contiguous() || views.value.is_contiguous());
    EXPECT_TRUE(at::equal(yoso_attention(views, options), yoso_attention(copies, options)));
  }
}

TEST_F(YosoAttentionTest, TheSeedFixesTheBits) {
  const YosoInputs in = random_inputs({2, 20, 20, 2, 2, 16, 16}, at::kFloat);
  YosoOptions options = sampled(8, 16);
  const Tensor first = yoso_attention(in, options);
  EXPECT_TRUE(at::equal(first, yoso_attention(in, options)));
  options.seed = 8;
  EXPECT_FALSE(at::equal(first, yoso_attention(in, options)));

  options.seed.reset();
  at::manual_seed(1);
  const Tensor drawn = yoso_attention(in, options), next = yoso_attention(in, options);
  at::manual_seed(1);
  EXPECT_TRUE(at::equal(drawn, yoso_attention(in, options)));
  EXPECT_FALSE(at::equal(drawn, next));
}

TEST_F(YosoAttentionTest, ThreadsDoNotChangeTheBits) {
  const YosoInputs in = random_inputs({1, 700, 700, 3, 3, 16, 16}, at::kFloat);
  const Tensor grad = random({1, 700, 3, 16}, at::kFloat);
  for (const YosoOptions& options : {expected(8), sampled(8, 16)}) {
    at::set_num_threads(1);
    const Result one = run(in, options, grad);
    at::set_num_threads(3);
    const Result three = run(in, options, grad);
    EXPECT_TRUE(at::equal(one.out, three.out));
    EXPECT_TRUE(at::equal(one.query_grad, three.query_grad));
    EXPECT_TRUE(at::equal(one.key_grad, three.key_grad));
    EXPECT_TRUE(at::equal(one.value_grad, three.value_grad));
  }
}

TEST_F(YosoAttentionTest, SixteenBitsStayCloseToDouble) {
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    const double eps = type == at::kHalf ? 0x1p-11 : 0x1p-8;
    for (const YosoOptions& options : {expected(8), sampled(8, 32)}) {
      const YosoInputs in = random_inputs({1, 50, 50, 2, 2, 16, 16}, type);
      const Tensor out = yoso_attention(in, options);
      ASSERT_EQ(out.scalar_type(), type);
      // The inputs are the same numbers, sums are float and components are at most 1: what is left
      // is the rounding of the result, and float sums far below it.
      EXPECT_LE(max_difference(out, formula(in, options)), 1.1 * eps) << type;
    }
  }
}

TEST_F(YosoAttentionTest, AutocastCastsTheInputs) {
  YosoInputs in = random_inputs({2, 9, 9, 2, 2, 16, 16}, at::kFloat);
  in.conv_weight = random({2, 3}, at::kFloat);
  YosoInputs narrow = in;
  for (Tensor* x : {&narrow.query, &narrow.key, &narrow.value, &narrow.conv_weight})
    *x = x->to(at::kBFloat16);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  const Tensor out = yoso_attention(in, sampled());
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();
  EXPECT_EQ(out.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(out, yoso_attention(narrow, sampled())));
}

TEST_F(YosoAttentionTest, HalfSumsDoNotOverflowBeforeTheyAreNormalised) {
  YosoInputs in;
  in.query = in.key = at::ones({1, 64, 1, 8}, at::kHalf);
  in.value = at::full({1, 64, 1, 4}, 60000.0, at::kHalf);
  for (const YosoOptions& options : {expected(), sampled()}) {
    EXPECT_LE(max_difference(yoso_attention(in, options), at::full({1, 64, 1, 4}, 0.5)), 1e-3);
  }
}

TEST_F(YosoAttentionTest, AutoTakesTheFasterModeOfTheTable) {
  EXPECT_EQ(faster_mode(Device::kCpu, 16, 32), Mode::kExpected);
  EXPECT_EQ(faster_mode(Device::kCpu, 100'000, 32), Mode::kSampled);
  EXPECT_EQ(faster_mode(Device::kCpu, 0, 32), Mode::kExpected);
  // Between rows: no length between two at which the expectation is faster samples.
  for (const int64_t tokens : {500, 900, 1023, 1500, 2500}) {
    EXPECT_EQ(faster_mode(Device::kCuda, static_cast<double>(tokens), 32), Mode::kExpected)
        << tokens;
  }
  EXPECT_EQ(faster_mode(Device::kCuda, 4096, 32), Mode::kSampled);

  YosoOptions options = sampled(8, 1);
  options.mode = Mode::kAuto;
  const YosoInputs in = random_inputs({1, 4000, 4000, 1, 1, 2, 2}, at::kFloat);
  EXPECT_TRUE(at::equal(yoso_attention(in, options), yoso_attention(in, sampled(8, 1))));
  // Few real tokens, wherever they stand, are a short sequence.
  YosoInputs masked = in;
  masked.query_mask = masked.key_mask = prefix_mask({3}, 4000);
  options.num_hashes = 32;
  EXPECT_TRUE(at::equal(yoso_attention(masked, options), yoso_attention(masked, expected(8))));
  // Only the expectation knows codes of 2.5 bits.
  options.code_bits = 2.5;
  const YosoInputs small = random_inputs({1, 40, 40, 1, 1, 2, 2});
  EXPECT_TRUE(at::equal(yoso_attention(small, options), yoso_attention(small, expected(2.5))));
}

// The numbers of docs/math.md: T = 4, three queries and keys of width 2.
TEST_F(YosoAttentionTest, ReproducesTheWorkedExample) {
  const auto rows = [](std::vector<double> numbers) {
    return at::tensor(numbers, at::kDouble).view({1, 3, 1, 2});
  };
  YosoInputs in{.query = testing::normalized(rows({1, 0, 1, 1, 0, 1})),
                .key = testing::normalized(rows({1, 0, -1, 1, 1, 2})),
                .value = rows({1, 0, 0, 1, 2, -1})};
  EXPECT_LE(max_difference(yoso_attention(in, expected()),
                           rows({.9920051168, -.1261976558, .9398932982, -.3414682827, .9825757957,
                                 -.1858623298})),
            1e-10);
  const auto [query_grad, key_grad, value_grad] = ops::expected_attention_grad(
      in.query, in.key, {}, {}, in.value, rows({1, 0, 0, 1, 1, 1}), 4, Gradient::kSurrogate, {});
  EXPECT_LE(max_difference(query_grad, rows({2.3145997720, .6291995439, -.6689450766, -1.0727251103,
                                             .1497624359, 1.3919229016})),
            1e-10);
  EXPECT_LE(max_difference(key_grad,
                           rows({2, .125, .0883883476, .7212008476, -.2144743114, .1379941186})),
            1e-10);
  EXPECT_LE(max_difference(value_grad, rows({1.0625, .37890625, .3203125, .37890625, .7038340719,
                                             1.1770496083})),
            1e-10);
}

TEST_F(YosoAttentionTest, OperatorsErrorsKeepTheirWords) {
  const Tensor x = random({1, 3, 2, 4});
  EXPECT_EQ(message_of([&] { ops::hash(x, 4, 17, 1, Projection::kHadamard, 2); }),
            "hash: code_bits is 17, expected 1 to 16");
  EXPECT_EQ(message_of([&] { ops::hash(x, 4, 8, 1, Projection::kHadamard, 3); }),
            "hash: projection_heads is 3, expected a divisor of the 2 heads of x");
}

TEST_F(YosoAttentionTest, NamesTheArgumentThatIsWrong) {
  const YosoInputs good = random_inputs({2, 5, 6, 4, 2, 8, 3}, at::kFloat);
  const auto with = [&](const std::function<void(YosoInputs&, YosoOptions&)>& change) {
    YosoInputs in = good;
    YosoOptions options = sampled();
    change(in, options);
    return message_of([&] { yoso_attention(in, options); });
  };
  EXPECT_EQ(with([](auto&, auto&) {}), "no error");
  EXPECT_EQ(with([](auto& in, auto&) { in.key = Tensor(); }),
            "yoso_attention: key is undefined, expected a tensor");
  EXPECT_EQ(with([](auto& in, auto&) { in.key = in.key[0]; }),
            "yoso_attention: key is [6, 2, 8], expected [batch, tokens, heads, width]");
  EXPECT_EQ(with([](auto& in, auto&) { in.value = in.value.to(at::kDouble); }),
            "yoso_attention: value is Double, expected Float, the type of query");
  EXPECT_EQ(with([](auto& in, auto&) { in.query = in.query.to(at::kInt); }),
            "yoso_attention: query is Int, expected a floating type");
  EXPECT_EQ(with([](auto& in, auto&) { in.value = in.value.to(at::Device("meta")); }),
            "yoso_attention: value is meta, expected cpu or cuda");
  EXPECT_EQ(with([](auto& in, auto&) { in.key = in.key.slice(0, 0, 1); }),
            "yoso_attention: key is [1, 6, 2, 8], expected the batch of query, 2");
  EXPECT_EQ(with([](auto& in, auto&) { in.key = in.key.slice(3, 0, 7); }),
            "yoso_attention: key is [2, 6, 2, 7], expected the width of query, 8");
  EXPECT_EQ(with([](auto& in, auto&) { in.query = in.query.slice(2, 0, 3); }),
            "yoso_attention: query is [2, 5, 3, 8], expected heads that are a multiple of the 2 "
            "heads of key");
  EXPECT_EQ(with([](auto& in, auto&) { in.query = in.query.slice(2, 0, 0); }),
            "yoso_attention: query is [2, 5, 0, 8], expected heads that are a positive multiple of "
            "the 2 heads of key");
  EXPECT_EQ(with([](auto& in, auto&) { in.value = in.value.slice(1, 0, 5); }),
            "yoso_attention: value is [2, 5, 2, 3], expected the batch, tokens and heads of key, "
            "[2, 6, 2, 8]");
  EXPECT_EQ(with([](auto& in, auto&) {
              in.value = at::zeros({2, 6, 2, 257});
            }),
            "yoso_attention: value is [2, 6, 2, 257], expected a width from 1 to 256");
  EXPECT_EQ(with([](auto& in, auto&) {
              in.key_mask = at::ones({2, 5}, at::kBool);
            }),
            "yoso_attention: key_mask is [2, 5], expected [2, 6]");
  EXPECT_EQ(with([](auto& in, auto&) {
              in.query_mask = at::ones({2, 5}, at::kFloat);
            }),
            "yoso_attention: query_mask is Float, expected Bool");
  EXPECT_EQ(with([](auto&, auto& options) { options.code_bits = 17; }),
            "yoso_attention: code_bits is 17, expected an integer from 1 to 16 when sampled");
  EXPECT_EQ(with([](auto&, auto& options) { options.code_bits = 2.5; }),
            "yoso_attention: code_bits is 2.5, expected an integer from 1 to 16 when sampled");
  EXPECT_EQ(with([](auto&, auto& options) { options.code_bits = 0; }),
            "yoso_attention: code_bits is 0, expected more than 0");
  EXPECT_EQ(with([](auto&, auto& options) { options.num_hashes = 0; }),
            "yoso_attention: num_hashes is 0, expected at least 1");
  EXPECT_EQ(with([](auto& in, auto&) {
              in.conv_weight = at::zeros({4, 2});
            }),
            "yoso_attention: conv_weight is [4, 2], expected [4, an odd width]");
}

TEST_F(YosoAttentionTest, NamesWhatIsWrongWithOffsets) {
  const auto with = [&](std::vector<int64_t> queries, std::vector<int64_t> keys) {
    YosoInputs in{
        .query = at::zeros({5, 1, 4}), .key = at::zeros({6, 1, 4}), .value = at::zeros({6, 1, 4})};
    in.query_offsets = at::tensor(queries, at::kLong);
    in.key_offsets = at::tensor(keys, at::kLong);
    return message_of([&] { yoso_attention(in, sampled()); });
  };
  EXPECT_EQ(with({0, 2, 5}, {0, 6, 6}), "no error");
  EXPECT_THAT(with({0, 5}, {0, 3, 6}), ::testing::StartsWith("yoso_attention: key_offsets is [3]"));
  EXPECT_EQ(with({0, 2, 5}, {0, 7, 6}),
            "bucket_attention: key_rows.offsets[2] is 6, expected at least offsets[1] = 7");
  EXPECT_EQ(with({0, 2, 4}, {0, 6, 6}),
            "bucket_attention: query_rows.offsets[2] is 4, expected the number of rows = 5");
  YosoInputs in{
      .query = at::zeros({5, 1, 4}), .key = at::zeros({5, 1, 4}), .value = at::zeros({5, 1, 4})};
  in.query_offsets = at::tensor({0, 5}, at::kLong);
  EXPECT_EQ(message_of([&] { yoso_attention(in, sampled()); }),
            "yoso_attention: key_offsets is absent, expected offsets for both sides or for "
            "none");
  in.key_offsets = at::tensor({0, 5}, at::kInt);
  EXPECT_EQ(message_of([&] { yoso_attention(in, sampled()); }),
            "yoso_attention: key_offsets is Int, expected Long (int64)");
}

}  // namespace
}  // namespace yoso
