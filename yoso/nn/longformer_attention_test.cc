// SPDX-License-Identifier: Apache-2.0
#include "yoso/core/testing.h"
#include "yoso/nn/attention_testing.h"

namespace yoso::nn {
namespace {

using at::Tensor;

Tensor longformer(const Inputs& in, int64_t window, int64_t global_tokens) {
  return run(*attention_of({.kind = "longformer",
                            .longformer = {.window = window, .global_tokens = global_tokens}}),
             in);
}

TEST(LongformerAttention, IsSoftmaxAmongWindowAndGlobalTokens) {
  const Inputs in = inputs_of({13, 6, 1}, 13);
  for (const int64_t window : {2, 4, 6, 20}) {
    for (const int64_t global_tokens : {0, 1, 3, 13}) {
      const Tensor i = at::arange(13, in.mask.device()).unsqueeze(1), j = i.t();
      const Tensor pairs =
          ((i - j).abs() <= window / 2).logical_or(i < global_tokens).logical_or(j < global_tokens);
      const Tensor expected =
          softmax_formula(in, pairs.logical_and(in.mask.unsqueeze(1).unsqueeze(1)));
      EXPECT_LE(difference(longformer(in, window, global_tokens), expected, in.mask), 1e-13)
          << window << ' ' << global_tokens;
    }
  }
}

TEST(LongformerAttention, IsSoftmaxWhereTheWindowCoversAll) {
  const Inputs in = inputs_of({13, 6}, 13);
  EXPECT_LE(difference(longformer(in, 24, 0), softmax_formula(in), in.mask), 1e-13);
}

TEST(LongformerAttention, NamesAWrongOption) {
  EXPECT_EQ(error_of([] { longformer({}, 5, 0); }),
            "attention.longformer.window is 5, expected an even number from 2");
  EXPECT_EQ(error_of([] { longformer({}, 4, -1); }),
            "attention.longformer.global_tokens is -1, expected at least 0");
}

}  // namespace
}  // namespace yoso::nn
