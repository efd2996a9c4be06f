// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/reformer_attention.h"

#include <limits>
#include <vector>

#include "yoso/core/check.h"
#include "yoso/nn/draws.h"
#include "yoso/nn/heads.h"

namespace yoso::nn {
namespace {

using at::Tensor;

constexpr double kSelf = -1e5;  // the paper's: a token itself, after everything else

// Tokens in the order of their buckets, for each hash, cut into chunks; [B, H, R] before the rest.
class Chunks {
 public:
  Chunks(const Tensor& buckets, int64_t chunk)
      : size_(chunk), tokens_(buckets.size(-1)), count_((tokens_ + chunk - 1) / chunk) {
    order_ = std::get<1>(buckets.sort(/*stable=*/true, /*dim=*/-1, /*descending=*/false));
    const Tensor places = at::arange(tokens_, order_.options()).expand_as(order_);
    place_ = at::empty_like(order_).scatter(-1, order_, places);
  }

  const Tensor& place() const { return place_; }  // [B, H, R, N]: place of each token

  // x [B, H, R, N, *] by token -> [B, H, R, count, size, *] by place; `filler` behind the last.
  Tensor own(const Tensor& x, double filler = 0) const {
    const Tensor index = order_.unsqueeze(-1).expand_as(x);
    return at::constant_pad_nd(x.gather(3, index), {0, 0, 0, count_ * size_ - tokens_}, filler)
        .unflatten(3, {count_, size_});
  }
  // [B, H, R, count, size, *] -> [B, H, R, count, 2 size, *]: the chunk before, then the chunk.
  Tensor with_previous(const Tensor& own, double filler = 0) const {
    const Tensor before = at::constant_pad_nd(own, {0, 0, 0, 0, 1, 0}, filler).narrow(3, 0, count_);
    return at::cat({before, own}, 4);
  }
  // [B, H, R, count, size, *] by place -> [B, H, R, N, *] by token.
  Tensor by_token(const Tensor& x) const {
    const Tensor rows = x.flatten(3, 4);
    const Tensor index = place_.unsqueeze(-1).expand({-1, -1, -1, -1, rows.size(-1)});
    return rows.gather(3, index);
  }

 private:
  int64_t size_, tokens_, count_;
  Tensor order_;  // [B, H, R, N]: token at each place
  Tensor place_;
};

// Under how many hashes each pair of a chunk with itself and the one before meets,
// [B, H, R, count, size, 2 size]: 0 where it does not under the hash that made the chunk.
Tensor meetings(const Chunks& chunks, const Tensor& buckets, const Tensor& real, int64_t chunk) {
  const int64_t hashes = buckets.size(2);
  const auto of_all_hashes = [&](const Tensor& x) {  // [B, H, R, N] -> [B, H, R, N, R]
    return x.permute({0, 1, 3, 2}).unsqueeze(2).expand({-1, -1, hashes, -1, -1});
  };
  // Masked tokens and the filler share no bucket with a query.
  const Tensor known = buckets.masked_fill(real.logical_not().unsqueeze(1).unsqueeze(1), -2);
  const Tensor bucket = chunks.own(of_all_hashes(buckets), -1);
  const Tensor other = chunks.with_previous(chunks.own(of_all_hashes(known), -2), -2);
  const Tensor number = chunks.own(of_all_hashes(chunks.place().div(chunk, "floor")));
  const Tensor other_number = chunks.with_previous(number);
  const Tensor hash = at::arange(hashes, buckets.options()).view({hashes, 1, 1, 1});
  // A byte a pair, as what comparisons give: there are many.
  const at::TensorOptions number_type = real.options().dtype(hashes < 256 ? at::kByte : at::kInt);
  Tensor total = at::zeros({}, number_type), mine = at::zeros({}, real.options());
  for (int64_t r = 0; r < hashes; ++r) {
    const auto equal = [&](const Tensor& of_query, const Tensor& of_key) {
      return of_query.select(-1, r).unsqueeze(-1) == of_key.select(-1, r).unsqueeze(-2);
    };
    const Tensor near = equal(number, other_number).logical_or_(equal(number - 1, other_number));
    const Tensor meet = equal(bucket, other).logical_and_(near);
    total = total + meet;
    mine = mine.logical_or(meet.logical_and(hash == r));
  }
  return total * mine;
}

}  // namespace

ReformerAttention::ReformerAttention(const AttentionConfig& config) : options_(config.reformer) {
  const auto at_least_one = [](const char* name, int64_t value) {
    if (value < 1) fail("attention.reformer.", name, " is ", value, ", expected at least 1");
  };
  at_least_one("hashes", options_.hashes);
  at_least_one("chunk", options_.chunk);
  if (options_.buckets < 0 || (options_.buckets > 1 && options_.buckets % 2 != 0)) {
    fail("attention.reformer.buckets is ", options_.buckets, ", expected 0, 1 or an even number");
  }
}

Tensor ReformerAttention::buckets_of(const Tensor& query, const Tensor& real, int64_t seed) const {
  const at::NoGradGuard no_grad;
  const int64_t heads = query.size(1), tokens = query.size(2), width = query.size(3);
  const int64_t hashes = options_.hashes, chunk = options_.chunk;
  const Tensor padding = real.logical_not().unsqueeze(1).unsqueeze(1);  // [B, 1, 1, N]
  if (options_.buckets == 1) {
    return padding.to(at::kLong).expand({-1, heads, hashes, -1}).contiguous();
  }
  // Half of the buckets are the other half's opposites.
  const int64_t half = options_.buckets > 0 ? options_.buckets / 2 : (tokens + chunk - 1) / chunk;
  std::vector<Tensor> planes;
  for (int64_t head = 0; head < heads; ++head) {
    planes.push_back(Draws{seed, static_cast<uint32_t>(head), query.device()}
                         .normals(half, hashes * width)
                         .view({half, hashes, width})
                         .permute({1, 2, 0}));
  }
  const Tensor projected =  // [B, H, R, N, half]
      at::matmul(query.unsqueeze(2), at::stack(planes).to(query.scalar_type()));
  const Tensor used = options_.buckets > 0
                          ? at::full({real.size(0)}, half, real.options().dtype(at::kLong))
                          : (real.sum(1) + (chunk - 1)).div(chunk, "floor").clamp_min(1);
  const Tensor unused = at::arange(half, used.options()) >= used.view({-1, 1, 1, 1, 1});
  const auto among_used = [&](const Tensor& x) {
    return x.masked_fill(unused, -std::numeric_limits<float>::infinity());
  };
  const Tensor buckets =
      at::cat({among_used(projected), among_used(projected.neg())}, -1).argmax(-1);
  return buckets.masked_fill(padding, 2 * half);
}

Tensor ReformerAttention::forward(const Tensor& query, const Tensor& key, const Tensor& value,
                                  const Tensor& mask) {
  if (value.numel() == 0) return value;
  const Heads in(query, key, value, mask);
  const Tensor buckets = buckets_of(in.query, in.real, seed_or_draw(options_.seed));
  const Chunks chunks(buckets, options_.chunk);
  const auto of_all_hashes = [&](const Tensor& x) {
    return x.unsqueeze(2).expand({-1, -1, options_.hashes, -1, -1});
  };
  const Tensor unit = at::div(wide(in.query), wide(in.query).norm(2, -1, true).clamp_min(1e-12))
                          .to(in.query.scalar_type());
  const Tensor queries = chunks.own(of_all_hashes(in.query));
  const Tensor keys = chunks.with_previous(chunks.own(of_all_hashes(unit)));
  const Tensor values = chunks.with_previous(chunks.own(of_all_hashes(in.value)));

  const Tensor count = meetings(chunks, buckets, in.real, options_.chunk);
  const Tensor allowed = count > 0;
  const Tensor token =
      chunks.own(at::arange(value.size(1), buckets.options()).expand_as(buckets).unsqueeze(-1), -1);
  const Tensor self = token == chunks.with_previous(token, -1).transpose(-2, -1);
  const Tensor logits = wide(at::matmul(queries, keys.transpose(-2, -1))) * in.scale();
  const Tensor scores =
      logits.masked_fill(self, kSelf) - count.clamp_min(1).to(logits.scalar_type()).log();
  const Tensor hidden =
      scores.masked_fill(allowed.logical_not(), std::numeric_limits<float>::lowest());
  const Tensor out = chunks.by_token(at::matmul(masked_softmax(scores, allowed), wide(values)));
  // Each hash has its share of all that a token sees.
  const Tensor share = chunks.by_token(hidden.logsumexp(-1, /*keepdim=*/true)).softmax(2);
  return (out * share).sum(2).transpose(1, 2);
}

}  // namespace yoso::nn
