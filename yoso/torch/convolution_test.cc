// SPDX-License-Identifier: Apache-2.0
#include "yoso/torch/convolution.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "yoso/core/check.h"

namespace yoso {
namespace {

using at::Tensor;

// As torch has it.
Tensor library_convolution(const Tensor& value, const Tensor& weight) {
  const Tensor columns = value.permute({0, 3, 2, 1}).flatten(0, 1);
  return at::conv1d(columns, weight.unsqueeze(1), /*bias=*/{}, /*stride=*/1,
                    /*padding=*/weight.size(1) / 2, /*dilation=*/1, /*groups=*/weight.size(0))
      .unflatten(0, {value.size(0), value.size(3)})
      .permute({0, 3, 2, 1});
}

struct Result {
  Tensor out, value_grad, weight_grad;
};

Result run(Tensor (*convolve)(const Tensor&, const Tensor&), const Tensor& value,
           const Tensor& weight, const Tensor& out_grad) {
  const Tensor x = value.detach().requires_grad_(true), w = weight.detach().requires_grad_(true);
  const Tensor out = convolve(x, w);
  out.backward(out_grad);
  return {out.detach(), x.grad(), w.grad()};
}

Tensor integers(at::IntArrayRef sizes) { return at::randint(-4, 5, sizes, at::kDouble); }

TEST(Convolution, IsTheSumOfShiftedValues) {
  at::manual_seed(1);
  const Tensor value = integers({2, 7, 2, 3}), weight = integers({2, 5});
  Tensor expected = at::zeros_like(value);
  for (int64_t n = 0; n < 7; ++n) {
    for (int64_t t = 0; t < 5; ++t) {
      const int64_t from = n + t - 2;
      if (from < 0 || from >= 7) continue;
      expected.select(1, n) += weight.select(1, t).unsqueeze(-1) * value.select(1, from);
    }
  }
  EXPECT_TRUE(at::equal(convolve_tokens(value, weight), expected));
}

// Whole numbers: exact in any order. Lengths around blocks, filters longer than they are and longer
// than the sequence.
TEST(Convolution, AgreesWithTheLibraryAndSoDoGradients) {
  at::manual_seed(2);
  for (const int64_t tokens : {1, 2, 16, 63, 64, 65, 127, 128, 200, 1100}) {
    for (const int64_t taps : {1, 3, 33, 129, 1001}) {
      for (const int64_t heads : {1, 3}) {
        const Tensor value = integers({2, tokens, heads, 5}), weight = integers({heads, taps});
        const Tensor out_grad = integers({2, tokens, heads, 5});
        const Result library = run(library_convolution, value, weight, out_grad);
        const Result ours = run(convolve_tokens, value, weight, out_grad);
        const auto name = join(tokens, " tokens, ", taps, " taps, ", heads, " heads");
        EXPECT_TRUE(at::equal(ours.out, library.out)) << name;
        EXPECT_TRUE(at::equal(ours.value_grad, library.value_grad)) << name;
        EXPECT_TRUE(at::equal(ours.weight_grad, library.weight_grad)) << name;
      }
    }
  }
}

TEST(Convolution, SequencesAndOtherLayoutsDoNotMix) {
  at::manual_seed(3);
  const Tensor value = integers({3, 2, 70, 4}).transpose(1, 2), weight = integers({2, 9});
  const Tensor all = convolve_tokens(value, weight);
  for (int64_t b = 0; b < 3; ++b) {
    EXPECT_TRUE(at::equal(all.narrow(0, b, 1), convolve_tokens(value.narrow(0, b, 1), weight)));
  }
}

TEST(Convolution, TakesTheFilterInTheTypeOfTheValues) {
  const Tensor value = integers({1, 70, 1, 2}).to(at::kBFloat16), weight = integers({1, 3});
  EXPECT_EQ(convolve_tokens(value, weight).scalar_type(), at::kBFloat16);
}

TEST(Convolution, GivesTheGradientsThatAreWanted) {
  at::manual_seed(4);
  const Tensor value = integers({2, 70, 2, 3}), weight = integers({2, 5});
  const Tensor out_grad = integers({2, 70, 2, 3});
  const Result both = run(convolve_tokens, value, weight, out_grad);
  const Tensor x = value.detach().requires_grad_(true), w = weight.detach().requires_grad_(true);
  convolve_tokens(x, weight).backward(out_grad);
  convolve_tokens(value, w).backward(out_grad);
  EXPECT_TRUE(at::equal(x.grad(), both.value_grad));
  EXPECT_TRUE(at::equal(w.grad(), both.weight_grad));
}

// 257 is no number of bfloat16.
TEST(Convolution, IsNotNarrowedByAutocast) {
  const Tensor value = at::full({1, 3, 1, 1}, 257, at::kFloat), weight = at::ones({1, 1});
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const Result result = run(convolve_tokens, value, weight, value);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_TRUE(at::equal(result.out, value));
  EXPECT_TRUE(at::equal(result.value_grad, value));
  EXPECT_EQ(result.weight_grad.item<float>(), 3 * 257 * 257);
}

// Token 100 lies in the second block of 64, and what lies further than the filter in no other.
TEST(Convolution, WhatIsNotFiniteStaysInItsBlocks) {
  Tensor value = at::ones({1, 200, 1, 1}, at::kDouble);
  value[0][100] = std::nan("");
  const Tensor out = convolve_tokens(value, at::ones({1, 9}, at::kDouble));
  for (int64_t n = 0; n < 200; ++n) {
    const double x = out[0][n].item<double>();
    if (n >= 96 && n <= 104) {
      EXPECT_TRUE(std::isnan(x)) << n;
    } else if (n < 64 || n >= 128) {
      EXPECT_TRUE(std::isfinite(x)) << n;
    }
  }
}

TEST(Convolution, RefusesDoubleBackward) {
  const Tensor value = integers({1, 3, 1, 2}).requires_grad_(true), weight = integers({1, 3});
  const Tensor out = convolve_tokens(value, weight).sum();
  try {
    out.backward({}, /*retain_graph=*/true, /*create_graph=*/true);
    FAIL() << "no error";
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what_without_backtrace()).find("double backward is not supported"),
              std::string::npos)
        << error.what_without_backtrace();
  }
}

}  // namespace
}  // namespace yoso
