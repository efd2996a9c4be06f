// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "yoso/torch/attention.h"
#include "yoso/torch/formula_testing.h"

namespace yoso {
namespace {

using at::Tensor;
using testing::formula;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Case {
  const char* name;
  int64_t batch, queries, keys, query_heads, key_heads, width, value_width;
  bool masked = false;
  int64_t conv_width = 0;
};

const Case kCases[] = {
    {"Single", 1, 1, 1, 1, 1, 3, 2},
    {"SelfAttention", 2, 7, 7, 2, 2, 5, 4},
    {"CrossGrouped", 2, 5, 9, 4, 2, 8, 16},
    {"Masked", 3, 6, 6, 2, 1, 6, 5, true},
    {"Convolved", 2, 6, 6, 2, 2, 6, 5, true, 3},
    {"NoKeys", 1, 3, 0, 2, 1, 4, 4},
};

YosoOptions options_of(Mode mode, Gradient gradient) {
  return {.mode = mode, .gradient = gradient, .num_hashes = 6, .code_bits = 3, .seed = 11};
}

YosoInputs inputs_of(const Case& c) {
  at::manual_seed(99);
  const auto random = [](at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble); };
  YosoInputs in;
  in.query = random({c.batch, c.queries, c.query_heads, c.width});
  in.key = random({c.batch, c.keys, c.key_heads, c.width});
  in.value = random({c.batch, c.keys, c.key_heads, c.value_width});
  if (c.masked) {
    in.query_mask = at::rand({c.batch, c.queries}) < 0.7;
    in.key_mask = at::rand({c.batch, c.keys}) < 0.7;
  }
  if (c.conv_width > 0) in.conv_weight = random({c.query_heads, c.conv_width});
  return in;
}

// Puts NaN into masked rows, which nobody may read.
YosoInputs poisoned(YosoInputs in) {
  const auto poison = [](const Tensor& x, const Tensor& mask) {
    return x.masked_fill(mask.logical_not().unsqueeze(-1).unsqueeze(-1), kNaN);
  };
  if (!in.query_mask.defined()) return in;
  in.query = poison(in.query, in.query_mask);
  in.key = poison(in.key, in.key_mask);
  in.value = poison(in.value, in.key_mask);
  return in;
}

std::vector<Tensor*> leaves(YosoInputs& in) {
  std::vector<Tensor*> list{&in.query, &in.key, &in.value};
  if (in.conv_weight.defined()) list.push_back(&in.conv_weight);
  return list;
}

using Function = std::function<Tensor(const YosoInputs&)>;

// The gradients of sum(out * weight), one for each of leaves().
std::vector<Tensor> gradients(YosoInputs in, const Function& function, const Tensor& weight) {
  std::vector<Tensor> wanted;
  for (Tensor* leaf : leaves(in)) {
    wanted.push_back(*leaf = leaf->detach().clone().requires_grad_(true));
  }
  return torch::autograd::grad({function(in)}, wanted, {weight.to(wanted[0].scalar_type())}, {},
                               /*create_graph=*/false, /*allow_unused=*/true);
}

void expect_close(const Tensor& got, const Tensor& expected, double bound, const char* what) {
  ASSERT_EQ(got.sizes(), expected.sizes()) << what;
  if (got.numel() == 0) return;
  EXPECT_LE((got.to(at::kDouble) - expected).abs().max().item<double>(), bound) << what;
}

class GradientTest : public ::testing::TestWithParam<Case> {
 protected:
  // Thousands of tiny calls: a second thread costs more than it gives.
  void SetUp() override { at::set_num_threads(1); }
};

INSTANTIATE_TEST_SUITE_P(Shapes, GradientTest, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

// Each mode and gradient against its written formula, through both normalisations.
TEST_P(GradientTest, IsTheDeclaredOne) {
  const YosoInputs in = poisoned(inputs_of(GetParam()));
  for (const Mode mode : {Mode::kExpected, Mode::kSampled}) {
    for (const Gradient gradient : {Gradient::kSurrogate, Gradient::kTrue}) {
      for (const bool normalize : {true, false}) {
        YosoOptions options = options_of(mode, gradient);
        options.normalize_output = normalize;
        const auto ours = [&](const YosoInputs& i) { return yoso_attention(i, options); };
        const auto theirs = [&](const YosoInputs& i) { return formula(i, options); };
        const Tensor weight = at::randn(ours(in).sizes(), at::kDouble);
        const std::vector<Tensor> got = gradients(in, ours, weight);
        const std::vector<Tensor> expected = gradients(in, theirs, weight);
        const char* names[] = {"query", "key", "value", "conv_weight"};
        for (size_t i = 0; i < expected.size(); ++i) {
          // Sums of some hundred products of numbers below 100 (a slope reaches T / (pi 0.01)),
          // divided by row norms that random inputs keep above 1e-3.
          expect_close(got[i], expected[i], 1e-8, names[i]);
        }
      }
    }
  }
}

// (f(x + h) - f(x - h)) / 2h of sum(out * weight) for every element of one leaf.
Tensor central_differences(YosoInputs in, size_t leaf, const Function& function,
                           const Tensor& weight) {
  Tensor& x = *leaves(in)[leaf];
  x = x.clone();
  Tensor result = at::zeros_like(x);
  const double h = 1e-6;
  for (int64_t i = 0; i < x.numel(); ++i) {
    double* element = x.data_ptr<double>() + i;
    const double before = *element;
    *element = before + h;
    const double above = (function(in) * weight).sum().item<double>();
    *element = before - h;
    const double below = (function(in) * weight).sum().item<double>();
    *element = before;
    result.data_ptr<double>()[i] = (above - below) / (2 * h);
  }
  return result;
}

// The true gradient of the expectation is the derivative, in every leaf; of the sampled estimate
// that holds for the values and filters, in which it is smooth.
TEST_P(GradientTest, IsTheDerivativeWhereThereIsOne) {
  const YosoInputs in = inputs_of(GetParam());
  for (const Mode mode : {Mode::kExpected, Mode::kSampled}) {
    const YosoOptions options = options_of(mode, Gradient::kTrue);
    const auto function = [&](const YosoInputs& i) { return yoso_attention(i, options); };
    const Tensor weight = at::randn(function(in).sizes(), at::kDouble);
    const std::vector<Tensor> got = gradients(in, function, weight);
    for (size_t i = mode == Mode::kExpected ? 0 : 2; i < got.size(); ++i) {
      // Truncation is h^2 f''' and rounding eps f / h = 1e-10 f: both far below 1e-6 for
      // derivatives below 1e4.
      expect_close(got[i], central_differences(in, i, function, weight), 1e-6, "leaf");
    }
  }
}

TEST(Gradient, OfSixteenBitInputsIsThatOfTheSameNumbersInDouble) {
  const YosoInputs in = inputs_of(kCases[1]);
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    const double eps = type == at::kHalf ? 0x1p-11 : 0x1p-8;
    YosoInputs narrow;
    narrow.query = in.query.to(type);
    narrow.key = in.key.to(type);
    narrow.value = in.value.to(type);
    for (const Mode mode : {Mode::kExpected, Mode::kSampled}) {
      const YosoOptions options = options_of(mode, Gradient::kSurrogate);
      const Tensor weight = at::randn({2, 7, 2, 4}, at::kDouble).to(type).to(at::kDouble);
      const std::vector<Tensor> got = gradients(
          narrow, [&](const YosoInputs& i) { return yoso_attention(i, options); }, weight);
      const std::vector<Tensor> expected = gradients(
          narrow, [&](const YosoInputs& i) { return formula(i, options).to(type); }, weight);
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(got[i].scalar_type(), type);
        // Two roundings to the type, of the saved output and of the gradient itself, each
        // relative to the largest gradient; the row norms' quotient may double it.
        const double largest = expected[i].abs().max().item<double>();
        expect_close(got[i], expected[i].to(at::kDouble), 4 * eps * largest, "leaf");
      }
    }
  }
}

TEST(Gradient, IsComputedOnlyWhereItIsWanted) {
  YosoInputs in = inputs_of(kCases[1]);
  const YosoOptions options = options_of(Mode::kSampled, Gradient::kSurrogate);
  const Tensor weight = at::ones({2, 7, 2, 4}, at::kDouble);
  const auto all = gradients(
      in, [&](auto& i) { return yoso_attention(i, options); }, weight);
  in.value = in.value.requires_grad_(true);
  yoso_attention(in, options).backward(weight);
  EXPECT_FALSE(in.query.grad().defined());
  EXPECT_TRUE(at::equal(in.value.grad(), all[2]));
  in.value = in.value.detach();
  in.key = in.key.requires_grad_(true);
  yoso_attention(in, options).backward(weight);
  EXPECT_TRUE(at::equal(in.key.grad(), all[1]));
}

TEST(Gradient, OfAGradientIsRefusedByName) {
  YosoInputs in = inputs_of(kCases[1]);
  in.query.requires_grad_(true);
  for (const Mode mode : {Mode::kExpected, Mode::kSampled}) {
    const Tensor out = yoso_attention(in, options_of(mode, Gradient::kTrue)).sum();
    try {
      torch::autograd::grad({out}, {in.query}, {}, /*retain_graph=*/true, /*create_graph=*/true);
      FAIL() << "no error";
    } catch (const c10::Error& error) {
      EXPECT_STREQ(error.what_without_backtrace(),
                   "yoso_attention: create_graph is true, expected false: double backward is not "
                   "supported");
    }
  }
}

// A subset of one hash is each of the M hashes alike often, and its gradient is that hash's own:
// over the seeds the mean of (estimate - gradient from all) is 0, for the seed's own hashes.
TEST(Gradient, FromASubsetOfTheHashesIsUnbiased) {
  const YosoInputs in = inputs_of(kCases[1]);
  const Tensor weight = at::randn({2, 7, 2, 4}, at::kDouble);
  constexpr int64_t kSeeds = 400;
  std::vector<Tensor> differences[2];
  for (int64_t seed = 0; seed < kSeeds; ++seed) {
    YosoOptions options = options_of(Mode::kSampled, Gradient::kSurrogate);
    options.seed = seed;
    const auto function = [&](const YosoInputs& i) { return yoso_attention(i, options); };
    const std::vector<Tensor> all = gradients(in, function, weight);
    options.backward_hashes = 2;
    const std::vector<Tensor> some = gradients(in, function, weight);
    ASSERT_TRUE(at::equal(some[2], all[2])) << "the values take all hashes";
    for (const int i : {0, 1}) differences[i].push_back(some[i] - all[i]);
  }
  for (const auto& side : differences) {
    const Tensor all = at::stack(side);
    const Tensor deviation = all.square().mean(0).sqrt();
    EXPECT_GT(deviation.max().item<double>(), 1e-3) << "a subset differs";
    // Seeds are independent: five deviations of a mean, for 140 numbers a side.
    const Tensor bound = 5 * deviation / std::sqrt(kSeeds) + 1e-12;
    EXPECT_TRUE((all.mean(0).abs() <= bound).all().item<bool>());
  }
}

TEST(Gradient, FromASubsetNamesWhatDoesNotFit) {
  const YosoInputs in = inputs_of(kCases[1]);
  const auto message_of = [&](const YosoOptions& options) -> std::string {
    try {
      yoso_attention(in, options);
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "no error";
  };
  YosoOptions options = options_of(Mode::kSampled, Gradient::kSurrogate);
  options.backward_hashes = 4;
  EXPECT_EQ(message_of(options),
            "yoso_attention: backward_hashes is 4, expected a divisor of num_hashes = 6");
  options.backward_hashes = 3;
  EXPECT_EQ(message_of(options), "no error");
  options.gradient = Gradient::kTrue;
  EXPECT_EQ(message_of(options),
            "yoso_attention: gradient is 'true', expected 'surrogate' with backward_hashes: a "
            "subset of hashes finds fewer colliding pairs");
}

TEST(Gradient, OfParallelRowsIsFinite) {
  // Queries equal to keys (the slope's pole), opposite to them, and without a direction.
  YosoInputs in;
  in.key = at::tensor({1., 0., -1., 0., 0., 0.}, at::kFloat).view({1, 3, 1, 2});
  in.query = in.key.clone();
  in.value = at::ones({1, 3, 1, 2}, at::kFloat);
  for (const Mode mode : {Mode::kExpected, Mode::kSampled}) {
    for (const Gradient gradient : {Gradient::kSurrogate, Gradient::kTrue}) {
      const YosoOptions options = options_of(mode, gradient);
      for (const Tensor& grad : gradients(
               in, [&](auto& i) { return yoso_attention(i, options); },
               at::ones({1, 3, 1, 2}, at::kFloat))) {
        EXPECT_TRUE(grad.isfinite().all().item<bool>());
      }
    }
  }
}

}  // namespace
}  // namespace yoso
