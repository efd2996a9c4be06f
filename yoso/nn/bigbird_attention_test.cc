// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>
#include <utility>

#include "yoso/core/testing.h"
#include "yoso/nn/attention_testing.h"
#include "yoso/nn/draws.h"

namespace yoso::nn {
namespace {

using at::Tensor;

Tensor bigbird(const Inputs& in, const BigbirdOptions& options) {
  return run(*attention_of({.kind = "bigbird", .bigbird = options}), in);
}

// The pairs of the header for one sequence of `tokens` tokens, `real` of them real; [H, N, N].
Tensor pairs(const BigbirdOptions& o, int64_t tokens, int64_t real) {
  const int64_t blocks = (real + o.block - 1) / o.block;
  Tensor out = at::zeros({kHeads, tokens, tokens}, at::kBool);
  for (int64_t h = 0; h < kHeads; ++h) {
    const Tensor draws = Draws{o.seed, static_cast<uint32_t>(h), at::kCPU}.uniforms(blocks, blocks);
    for (int64_t r = 0; r < blocks; ++r) {
      std::set<int64_t> seen;
      std::vector<std::pair<float, int64_t>> others;
      for (int64_t c = 0; c < blocks; ++c) {
        if (c < o.global_blocks || r < o.global_blocks || std::abs(c - r) <= o.window_blocks / 2) {
          seen.insert(c);
        } else {
          others.emplace_back(-draws[r][c].item<float>(), c);
        }
      }
      std::sort(others.begin(), others.end());
      for (size_t i = 0; i < others.size() && static_cast<int64_t>(i) < o.random_blocks; ++i)
        seen.insert(others[i].second);
      for (int64_t i = r * o.block; i < std::min(real, (r + 1) * o.block); ++i)
        for (const int64_t c : seen)
          for (int64_t j = c * o.block; j < std::min(real, (c + 1) * o.block); ++j)
            out[h][i][j] = true;
    }
  }
  return out.to(test_device());
}

TEST(BigbirdAttention, IsSoftmaxAmongItsBlocks) {
  const std::vector<int64_t> lengths{23, 11, 1};
  const Inputs in = inputs_of(lengths, 23);
  for (const BigbirdOptions& options :
       {BigbirdOptions{.block = 2, .window_blocks = 3, .global_blocks = 1, .random_blocks = 2},
        BigbirdOptions{.block = 3, .window_blocks = 1, .global_blocks = 0, .random_blocks = 1},
        BigbirdOptions{.block = 1, .window_blocks = 5, .global_blocks = 2, .random_blocks = 0},
        BigbirdOptions{.block = 2, .window_blocks = 1, .global_blocks = 3, .random_blocks = 99}}) {
    std::vector<Tensor> allowed;
    for (const int64_t length : lengths) allowed.push_back(pairs(options, 23, length));
    EXPECT_LE(difference(bigbird(in, options), softmax_formula(in, at::stack(allowed)), in.mask),
              1e-13)
        << options.block;
  }
}

TEST(BigbirdAttention, IsSoftmaxWhereTheBlocksCoverAll) {
  const Inputs in = inputs_of({13, 6}, 13);
  EXPECT_LE(difference(bigbird(in, {.block = 2, .window_blocks = 15, .global_blocks = 0}),
                       softmax_formula(in), in.mask),
            1e-13);
  EXPECT_LE(difference(bigbird(in, {}), softmax_formula(in), in.mask), 1e-13);  // all global
}

TEST(BigbirdAttention, RandomBlocksAreThoseOfTheSeed) {
  const Inputs in = inputs_of({40}, 40);
  const auto with_seed = [&](int64_t seed) {
    return bigbird(in, {.block = 2, .global_blocks = 1, .random_blocks = 2, .seed = seed});
  };
  EXPECT_TRUE(at::equal(with_seed(1), with_seed(1)));
  EXPECT_FALSE(at::equal(with_seed(1), with_seed(2)));
}

TEST(BigbirdAttention, NamesAWrongOption) {
  EXPECT_EQ(error_of([] { bigbird({}, {.block = 0}); }),
            "attention.bigbird.block is 0, expected at least 1");
  EXPECT_EQ(error_of([] { bigbird({}, {.window_blocks = 2}); }),
            "attention.bigbird.window_blocks is 2, expected an odd number");
  EXPECT_EQ(error_of([] { bigbird({}, {.global_blocks = -1}); }),
            "attention.bigbird.global_blocks is -1, expected at least 0");
  EXPECT_EQ(error_of([] { bigbird({}, {.random_blocks = -1}); }),
            "attention.bigbird.random_blocks is -1, expected at least 0");
}

}  // namespace
}  // namespace yoso::nn
