// SPDX-License-Identifier: Apache-2.0
#include "yoso/core/testing.h"
#include "yoso/nn/attention_testing.h"

namespace yoso::nn {
namespace {

using at::Tensor;

// f(x) [B, N, H, L 2^P] as the product over planes of sigmoid(2 b c u): the same as the softmax
// over corners, written otherwise.
Tensor features(const Tensor& x, const Tensor& planes, int64_t tables, double sharpness) {
  const int64_t bits = planes.size(0) / tables;
  std::vector<Tensor> columns;
  for (int64_t l = 0; l < tables; ++l)
    for (int64_t corner = 0; corner < (1 << bits); ++corner) {
      Tensor product = at::ones({}, x.options());
      for (int64_t t = 0; t < bits; ++t) {
        const Tensor u = at::matmul(x, planes[l * bits + t]).tanh();
        product = product * (2 * sharpness * ((corner >> t & 1) == 1 ? u : -u)).sigmoid();
      }
      columns.push_back(product);
    }
  return at::stack(columns, -1);
}

TEST(RaceAttention, IsTheDenseProductOfItsFeatures) {
  const at::NoGradGuard no_grad;
  const Inputs in = inputs_of({9, 4, 1}, 9);
  const auto attention = attention_of({.kind = "race", .race = {.tables = 2, .planes = 3}});
  attention->parameters()[0].fill_(1.5);
  const Tensor planes = attention->named_buffers()["planes"];
  ASSERT_EQ(planes.sizes(), (at::IntArrayRef{6, kWidth}));
  const auto heads_first = [&](const Tensor& x) {
    return features(x, planes, 2, 1.5).transpose(1, 2);
  };
  const Tensor products = at::matmul(heads_first(in.query), heads_first(in.key).transpose(2, 3)) *
                          in.mask.unsqueeze(1).unsqueeze(1);
  const Tensor expected =
      at::matmul(products / products.sum(-1, /*keepdim=*/true), in.value.transpose(1, 2))
          .transpose(1, 2);
  EXPECT_LE(difference(run(*attention, in), expected, in.mask), 1e-13);
}

// With b = 0 every corner is as likely: the mean of the values.
TEST(RaceAttention, IsTheMeanWithoutSharpness) {
  const at::NoGradGuard no_grad;
  const Inputs in = inputs_of({9}, 9);
  const auto attention = attention_of({.kind = "race"});
  attention->parameters()[0].fill_(0);
  EXPECT_LE(difference(run(*attention, in), in.value.mean(1, /*keepdim=*/true), in.mask), 1e-14);
}

TEST(RaceAttention, NamesAWrongOption) {
  const auto message = [](RaceOptions options) {
    return error_of([&] { attention_of({.kind = "race", .race = options}); });
  };
  EXPECT_EQ(message({.tables = 0}), "attention.race.tables is 0, expected at least 1");
  EXPECT_EQ(message({.planes = 13}), "attention.race.planes is 13, expected 1 to 12");
  EXPECT_EQ(error_of([] { make_attention({.kind = "race"}); }),
            "attention.head_width is 0, expected at least 1");
}

}  // namespace
}  // namespace yoso::nn
