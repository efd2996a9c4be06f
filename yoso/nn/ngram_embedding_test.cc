// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/ngram_embedding.h"

#include <gmock/gmock.h>

#include <utility>
#include <vector>

#include "yoso/core/testing.h"

namespace yoso::nn {
namespace {

using at::Tensor;

Tensor tokens_of(const std::vector<int64_t>& tokens) {
  return at::tensor(tokens, at::kLong).unsqueeze(0);
}

// The definition in whole numbers of any size: Horner's rule, then one round of mixing.
int64_t expected_row(const Tensor& tokens, int64_t sequence, int64_t end, int64_t length,
                     int64_t buckets) {
  __extension__ using Wide = unsigned __int128;
  Wide hash = 0;
  for (int64_t i = end - length + 1; i <= end; ++i) {
    const int64_t token = i < 0 ? 0 : tokens[sequence][i].item<int64_t>();
    hash = (hash * 1'103'515'245 + static_cast<Wide>(token)) % 2'147'483'647;
  }
  hash = (hash ^ (hash >> 15)) * 1'103'515'245 % 2'147'483'647;
  return static_cast<int64_t>(hash % static_cast<Wide>(buckets));
}

TEST(NgramEmbedding, RowsAreThePolynomialOfTheTokens) {
  at::manual_seed(1);
  const std::vector<int64_t> lengths = {3, 2, 64};
  for (const int64_t high : {int64_t{257}, int64_t{2'147'483'647}}) {
    const Tensor tokens = at::randint(0, high, {2, 9}, at::kLong);
    for (const int64_t buckets : {1, 7, 16384}) {
      const Tensor rows = ngram_rows(tokens, lengths, buckets);
      ASSERT_EQ(rows.sizes(), (std::vector<int64_t>{2, 9, 3}));
      for (int64_t b = 0; b < 2; ++b)
        for (int64_t i = 0; i < 9; ++i)
          for (int64_t n = 0; n < 3; ++n)
            EXPECT_EQ(rows[b][i][n].item<int64_t>(),
                      n * buckets + expected_row(tokens, b, i, lengths[n], buckets));
    }
  }
}

// Checkpoints of byte models depend on these.
TEST(NgramEmbedding, RowsOfKnownBytesStayTheSame) {
  const Tensor rows = ngram_rows(tokens_of({'f' + 1, 'i' + 1, 'n' + 1, 'e' + 1}), {3, 4}, 16384);
  EXPECT_TRUE(at::equal(
      rows[0],
      at::tensor({3599, 19983, 9133, 25517, 3668, 20052, 11116, 18437}, at::kLong).view({4, 2})))
      << rows;
}

// All 65,536 strings of four letters out of 16 fall as evenly as if drawn at random: the number in
// a bucket is then Poisson's with mean 4, so 300 of 16,384 buckets are empty, with a deviation of
// 17, and more than 24 have a probability of 1e-11 each.
TEST(NgramEmbedding, BucketsFillEvenly) {
  Tensor tokens = at::arange(65536, at::kLong);
  tokens =
      at::stack({tokens / 4096, tokens / 256 % 16, tokens / 16 % 16, tokens % 16}, 1).to(at::kLong);
  const Tensor rows = ngram_rows(tokens + 'a' + 1, {4}, 16384).select(1, 3).flatten();
  const Tensor counts = rows.bincount({}, 16384);
  EXPECT_LE(counts.max().item<int64_t>(), 24);
  EXPECT_LE((counts == 0).sum().item<int64_t>(), 300 + 6 * 17);
}

TEST(NgramEmbedding, IsTheSumOfTheRows) {
  at::manual_seed(2);
  NgramEmbedding embedding({2, 3}, 5, 4);
  const Tensor weight = embedding.named_parameters()["weight"];
  ASSERT_EQ(weight.sizes(), (std::vector<int64_t>{10, 4}));
  const Tensor tokens = at::randint(0, 257, {3, 6}, at::kLong);
  const Tensor rows = ngram_rows(tokens, {2, 3}, 5);
  const Tensor expected = weight.index({rows.select(2, 0)}) + weight.index({rows.select(2, 1)});
  const Tensor out = embedding.forward(tokens);
  EXPECT_TRUE(at::equal(out, expected));

  // Each row's gradient counts the tokens that read it.
  out.sum().backward();
  EXPECT_TRUE(
      at::equal(weight.grad().select(1, 0), rows.flatten().bincount({}, 10).to(at::kFloat)));
}

TEST(NgramEmbedding, SeesTheTokensBeforeAndNoneAfter) {
  at::manual_seed(3);
  NgramEmbedding embedding({2, 4}, 1024, 8);
  const Tensor tokens = at::randint(1, 257, {1, 12}, at::kLong);
  const Tensor all = embedding.forward(tokens);
  EXPECT_TRUE(at::equal(embedding.forward(tokens.slice(1, 0, 7)), all.slice(1, 0, 7)));
  Tensor other = tokens.clone();
  other[0][5] = tokens[0][5] % 256 + 1;
  const Tensor changed = (embedding.forward(other) != all).any(-1)[0];
  for (int64_t i = 0; i < 12; ++i) EXPECT_EQ(changed[i].item<bool>(), i >= 5 && i < 9) << i;
}

TEST(NgramEmbedding, TakesNoTokens) {
  NgramEmbedding embedding({3}, 4, 2);
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{0, 5}, {2, 0}}) {
    const Tensor out = embedding.forward(at::zeros({rows, columns}, at::kLong));
    EXPECT_EQ(out.sizes(), (std::vector<int64_t>{rows, columns, 2}));
  }
}

TEST(NgramEmbedding, NamesTheFieldThatIsWrong) {
  const auto error = [](std::vector<int64_t> lengths, int64_t buckets) {
    return error_of([&] { NgramEmbedding(std::move(lengths), buckets, 4); });
  };
  EXPECT_EQ(error({1}, 8), "encoder.ngrams has 1, expected lengths from 2 to 64");
  EXPECT_EQ(error({3, 65}, 8), "encoder.ngrams has 65, expected lengths from 2 to 64");
  EXPECT_EQ(error({3, 4, 3}, 8), "encoder.ngrams has 3 twice, expected different lengths");
  EXPECT_EQ(error({}, 8), "encoder.ngrams is empty, expected 1 or more lengths");
  EXPECT_EQ(error({3}, 0), "encoder.ngram_buckets is 0, expected at least 1");
}

}  // namespace
}  // namespace yoso::nn
