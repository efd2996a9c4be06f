// SPDX-License-Identifier: Apache-2.0
#include "yoso/core/testing.h"
#include "yoso/nn/attention_testing.h"

namespace yoso::nn {
namespace {

using at::Tensor;

std::shared_ptr<Attention> linformer(int64_t rank, int64_t max_length) {
  return attention_of({.kind = "linformer", .max_length = max_length, .linformer = {.rank = rank}});
}

TEST(LinformerAttention, IsItsFormula) {
  const at::NoGradGuard no_grad;
  const Inputs in = inputs_of({9, 4, 1}, 9);
  const auto attention = linformer(5, 12);
  const Tensor projection = attention->parameters()[0];
  ASSERT_EQ(projection.sizes(), (at::IntArrayRef{kHeads, 5, 12}));
  Inputs few = in;
  const auto projected = [&](const Tensor& x) {  // [B, 5, H, D]
    const Tensor real = x * in.mask.unsqueeze(-1).unsqueeze(-1);
    return at::einsum("hkn,bnhd->bkhd", {projection.narrow(2, 0, 9), real});
  };
  few.key = projected(in.key);
  few.value = projected(in.value);
  const Tensor expected = softmax_formula(few, at::ones({}, in.mask.options()));
  EXPECT_LE(difference(run(*attention, in), expected, in.mask), 1e-13);
}

TEST(LinformerAttention, IsSoftmaxWithTheIdentityAsProjection) {
  const at::NoGradGuard no_grad;
  const Inputs in = inputs_of({9, 9}, 9);
  const auto attention = linformer(9, 9);
  attention->parameters()[0].copy_(at::eye(9).expand({kHeads, 9, 9}));
  EXPECT_LE(difference(run(*attention, in), softmax_formula(in), in.mask), 1e-13);
}

TEST(LinformerAttention, NamesAWrongOptionOrLength) {
  EXPECT_EQ(error_of([] { linformer(0, 9); }),
            "attention.linformer.rank is 0, expected at least 1");
  EXPECT_EQ(error_of([] { make_attention({.kind = "linformer"}); }),
            "attention.max_length is 0, expected at least 1");
  EXPECT_EQ(error_of([] { run(*linformer(5, 8), inputs_of({9}, 9)); }),
            "linformer: tokens is 9, expected at most max_length = 8");
}

}  // namespace
}  // namespace yoso::nn
