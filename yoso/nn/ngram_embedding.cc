// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/ngram_embedding.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/embedding_bag.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>

#include <set>
#include <utility>

#include "yoso/core/check.h"

namespace yoso::nn {
namespace {

constexpr int64_t kLongest = 64;
// A polynomial hash modulo a prime below 2^31: no product overflows int64, on any device.
constexpr int64_t kPrime = (int64_t{1} << 31) - 1, kFactor = 1'103'515'245;

}  // namespace

at::Tensor ngram_rows(const at::Tensor& tokens, const std::vector<int64_t>& lengths,
                      int64_t buckets) {
  const int64_t columns = tokens.size(1);
  std::vector<at::Tensor> rows;
  for (const int64_t length : lengths) {
    const at::Tensor padded = at::constant_pad_nd(tokens, {length - 1, 0});
    at::Tensor hash = at::zeros_like(tokens);
    for (int64_t k = 0; k < length; ++k)
      hash.mul_(kFactor).add_(padded.narrow(1, k, columns)).remainder_(kPrime);
    // Mixed once more: like n-grams, which differ in the last token, have hashes near each other.
    hash = hash.bitwise_xor(hash.bitwise_right_shift(15)).mul_(kFactor).remainder_(kPrime);
    const auto first = static_cast<int64_t>(rows.size()) * buckets;
    rows.push_back(hash.remainder_(buckets).add_(first));
  }
  return at::stack(rows, -1);
}

NgramEmbedding::NgramEmbedding(std::vector<int64_t> lengths, int64_t buckets, int64_t width)
    : lengths_(std::move(lengths)), buckets_(buckets) {
  std::set<int64_t> seen;
  for (const int64_t length : lengths_) {
    if (length < 2 || length > kLongest)
      fail("encoder.ngrams has ", length, ", expected lengths from 2 to ", kLongest);
    if (!seen.insert(length).second)
      fail("encoder.ngrams has ", length, " twice, expected different lengths");
  }
  if (lengths_.empty()) fail("encoder.ngrams is empty, expected 1 or more lengths");
  if (buckets < 1) fail("encoder.ngram_buckets is ", buckets, ", expected at least 1");
  const int64_t rows = static_cast<int64_t>(lengths_.size()) * buckets;
  // As small as the embeddings of tokens.
  weight_ = register_parameter("weight", at::empty({rows, width}).normal_(0, 0.02));
}

at::Tensor NgramEmbedding::forward(const at::Tensor& tokens) {
  const at::Tensor rows = ngram_rows(tokens, lengths_, buckets_).flatten();
  const at::Tensor first =
      at::arange(0, rows.numel(), static_cast<int64_t>(lengths_.size()), rows.options());
  const at::Tensor sums = std::get<0>(at::embedding_bag(weight_, rows, first));
  return sums.view({tokens.size(0), tokens.size(1), weight_.size(1)});
}

}  // namespace yoso::nn
