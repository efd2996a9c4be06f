// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/reformer_attention.h"

#include <algorithm>
#include <vector>

#include "yoso/core/testing.h"
#include "yoso/nn/attention_testing.h"

namespace yoso::nn {
namespace {

using at::Tensor;

// Softmax among `allowed` [B, H, N, N] with unit queries as keys, a token itself at -1e5.
Tensor shared_softmax(const Inputs& in, const Tensor& allowed) {
  const Tensor query = in.query.transpose(1, 2);
  const Tensor key = query / query.norm(2, -1, /*keepdim=*/true);
  const Tensor self = at::eye(query.size(2), in.mask.options());
  const Tensor scores =
      (at::matmul(query, key.transpose(2, 3)) / std::sqrt(static_cast<double>(query.size(3))))
          .masked_fill(self, -1e5);
  const Tensor weights =
      scores.masked_fill(allowed.logical_not(), -std::numeric_limits<double>::infinity())
          .softmax(-1);
  return at::matmul(weights, in.value.transpose(1, 2)).transpose(1, 2);
}

// Pairs that meet under some hash, from buckets [B, H, R, N], by loops; [B, H, N, N].
Tensor pairs(const Tensor& buckets_anywhere, const Tensor& mask, int64_t chunk) {
  const Tensor buckets = buckets_anywhere.cpu();
  const int64_t batch = buckets.size(0), heads = buckets.size(1), hashes = buckets.size(2),
                tokens = buckets.size(3);
  Tensor out = at::zeros({batch, heads, tokens, tokens}, at::kBool);
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t r = 0; r < hashes; ++r) {
        std::vector<std::pair<int64_t, int64_t>> sorted;  // bucket, token
        for (int64_t i = 0; i < tokens; ++i)
          if (mask[b][i].item<bool>()) sorted.emplace_back(buckets[b][h][r][i].item<int64_t>(), i);
        std::sort(sorted.begin(), sorted.end());
        const auto count = static_cast<int64_t>(sorted.size());
        for (int64_t s = 0; s < count; ++s)
          for (int64_t t = 0; t < count; ++t) {
            const int64_t behind = s / chunk - t / chunk;
            if (sorted[s].first == sorted[t].first && (behind == 0 || behind == 1))
              out[b][h][sorted[s].second][sorted[t].second] = true;
          }
      }
  return out.to(test_device());
}

AttentionConfig reformer(const ReformerOptions& options) {
  return {.kind = "reformer", .reformer = options};
}

TEST(ReformerAttention, IsSoftmaxAmongTheTokensThatMeet) {
  const Inputs in = inputs_of({23, 11, 1}, 23);
  for (const ReformerOptions& options :
       {ReformerOptions{.hashes = 1, .chunk = 4, .seed = 2},
        ReformerOptions{.hashes = 3, .chunk = 3, .seed = 2},
        ReformerOptions{.hashes = 2, .chunk = 5, .buckets = 2, .seed = 2},
        ReformerOptions{.hashes = 2, .chunk = 4, .buckets = 1, .seed = 2}}) {
    const auto attention = attention_of(reformer(options));
    const Tensor buckets = ReformerAttention(reformer(options))
                               .buckets_of(in.query.transpose(1, 2), in.mask, /*seed=*/2);
    const Tensor expected = shared_softmax(in, pairs(buckets, in.mask, options.chunk));
    EXPECT_LE(difference(run(*attention, in), expected, in.mask), 1e-12)
        << options.hashes << ' ' << options.chunk;
  }
}

TEST(ReformerAttention, IsSharedSoftmaxWithOneBucketAndOneChunk) {
  const Inputs in = inputs_of({13, 6, 1}, 13);
  for (const int64_t hashes : {1, 2}) {
    const auto attention = attention_of(reformer({.hashes = hashes, .chunk = 13, .buckets = 1}));
    EXPECT_LE(difference(run(*attention, in), shared_softmax(in, in.mask.unsqueeze(1).unsqueeze(1)),
                         in.mask),
              1e-12);
  }
}

// Opposite rows are in opposite halves of the buckets; a row's bucket does not change with its
// size.
TEST(ReformerAttention, BucketsAreThoseOfDirections) {
  at::manual_seed(1);
  const Tensor rows = at::randn({1, 2, 50, 8}, at::kDouble).to(test_device());
  const Tensor real = at::ones({1, 50}, rows.options().dtype(at::kBool));
  const ReformerAttention attention(reformer({.buckets = 6}));
  const Tensor buckets = attention.buckets_of(rows, real, 4);
  EXPECT_TRUE(at::equal(buckets, attention.buckets_of(rows * 3, real, 4)));
  EXPECT_TRUE(at::equal((buckets + 3) % 6, attention.buckets_of(-rows, real, 4)));
  EXPECT_FALSE(at::equal(buckets, attention.buckets_of(rows, real, 5)));
  for (int64_t bucket = 0; bucket < 6; ++bucket)
    EXPECT_GT((buckets == bucket).sum().item<int64_t>(), 0) << bucket;
}

TEST(ReformerAttention, DrawsAnewUnlessSeeded) {
  const Inputs in = inputs_of({40}, 40);
  const auto drawn = attention_of(reformer({.chunk = 4}));
  EXPECT_FALSE(at::equal(run(*drawn, in, 1), run(*drawn, in, 2)));
  const auto seeded = attention_of(reformer({.chunk = 4, .seed = 6}));
  EXPECT_TRUE(at::equal(run(*seeded, in, 1), run(*seeded, in, 2)));
}

TEST(ReformerAttention, NamesAWrongOption) {
  const auto message = [](const ReformerOptions& options) {
    return error_of([&] { attention_of(reformer(options)); });
  };
  EXPECT_EQ(message({.hashes = 0}), "attention.reformer.hashes is 0, expected at least 1");
  EXPECT_EQ(message({.chunk = 0}), "attention.reformer.chunk is 0, expected at least 1");
  EXPECT_EQ(message({.buckets = 3}),
            "attention.reformer.buckets is 3, expected 0, 1 or an even number");
}

}  // namespace
}  // namespace yoso::nn
