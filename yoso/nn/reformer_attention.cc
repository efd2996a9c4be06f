// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/reformer_attention.h"

#include <torch/csrc/autograd/custom_function.h>

#include <limits>
#include <vector>

#include "yoso/core/check.h"
#include "yoso/nn/draws.h"
#include "yoso/nn/heads.h"

namespace yoso::nn {
namespace {

using at::Tensor;

// x [B, H, R, N, D] with the rows of dimension 3 in another order: row `from` of x in each place,
// both [B, H, R, N] and `to` the inverse of `from`. So the gradient is read where torch's own, which
// does not know that no row comes twice, adds it up.
class Permute : public torch::autograd::Function<Permute> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& x, const Tensor& from,
                        const Tensor& to) {
    ctx->save_for_backward({from, to});
    return rows(x, from);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    return {Permute::apply(grads[0], saved[1], saved[0]), Tensor(), Tensor()};
  }

 private:
  static Tensor rows(const Tensor& x, const Tensor& index) {
    return x.gather(3, index.unsqueeze(-1).expand_as(x));
  }
};

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
    return at::constant_pad_nd(Permute::apply(x, order_, place_),
                               {0, 0, 0, count_ * size_ - tokens_}, filler)
        .unflatten(3, {count_, size_});
  }
  // [B, H, R, count, size, *] -> [B, H, R, count, 2 size, *]: the chunk before, then the chunk.
  Tensor with_previous(const Tensor& own, double filler = 0) const {
    const Tensor before = at::constant_pad_nd(own, {0, 0, 0, 0, 1, 0}, filler).narrow(3, 0, count_);
    return at::cat({before, own}, 4);
  }
  // [B, H, R, count, size, *] by place -> [B, H, R, N, *] by token.
  Tensor by_token(const Tensor& x) const {
    return Permute::apply(x.flatten(3, 4).narrow(3, 0, tokens_), place_, order_);
  }

 private:
  int64_t size_, tokens_, count_;
  Tensor order_;  // [B, H, R, N]: token at each place
  Tensor place_;
};

// Whether a token of a chunk looks at one of the same chunk or the one before,
// [B, H, R, count, size, 2 size]: another one, which it meets under this hash and none before it.
Tensor first_meetings(const Chunks& chunks, const Tensor& buckets, const Tensor& real,
                      int64_t chunk) {
  const int64_t hashes = buckets.size(2);
  const auto of_all_hashes = [&](const Tensor& x) {  // [B, H, R, N] -> [B, H, R, N, R]
    return x.to(at::kInt).permute({0, 1, 3, 2}).unsqueeze(2).expand({-1, -1, hashes, -1, -1});
  };
  // Masked tokens and the filler share no bucket with a query.
  const Tensor known = buckets.masked_fill(real.logical_not().unsqueeze(1).unsqueeze(1), -2);
  const Tensor bucket = chunks.own(of_all_hashes(buckets), -1);
  const Tensor other = chunks.with_previous(chunks.own(of_all_hashes(known), -2), -2);
  const Tensor number = chunks.own(of_all_hashes(chunks.place().div(chunk, "floor")));
  const Tensor other_number = chunks.with_previous(number);
  std::vector<Tensor> meetings;
  for (int64_t mine = 0; mine < hashes; ++mine) {
    // Of tokens in the chunks of hash `mine`.
    const auto equal = [&](const Tensor& of_query, const Tensor& of_key, int64_t hash) {
      return of_query.select(2, mine).select(-1, hash).unsqueeze(-1) ==
             of_key.select(2, mine).select(-1, hash).unsqueeze(-2);
    };
    Tensor meet = equal(bucket, other, mine);
    for (int64_t hash = 0; hash < mine; ++hash) {
      const Tensor near =
          equal(number, other_number, hash).logical_or_(equal(number - 1, other_number, hash));
      meet.logical_and_(near.logical_and_(equal(bucket, other, hash)).logical_not_());
    }
    meet.narrow(-1, chunk, chunk).diagonal(0, -2, -1).fill_(false);
    meetings.push_back(meet);
  }
  return at::stack(meetings, 2);
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
  const Tensor queries = chunks.own(of_all_hashes(in.query * in.scale()));
  const Tensor keys = chunks.with_previous(chunks.own(of_all_hashes(unit)));
  const Tensor values = chunks.with_previous(
      chunks.own(of_all_hashes(with_column(in.value, at::ones_like(in.real_rows())))));

  // Weights over the largest of a token's under all hashes, which cancels. In place: there are many.
  constexpr double kHidden = -std::numeric_limits<double>::infinity();
  const Tensor hidden = first_meetings(chunks, buckets, in.real, options_.chunk).logical_not_();
  Tensor weights = at::matmul(queries, keys.transpose(-2, -1));
  weights.masked_fill_(hidden, kHidden);
  const Tensor top = chunks.by_token(weights.detach().amax(-1, /*keepdim=*/true))
                         .amax(2, /*keepdim=*/true);  // [B, H, 1, N, 1]
  weights
      .sub_(
          chunks.own(top.masked_fill(top == kHidden, 0).expand({-1, -1, options_.hashes, -1, -1})))
      .exp_();
  const Tensor sums = chunks.by_token(at::matmul(weights, values)).sum(2);
  const Tensor sees_others = sums.narrow(-1, value.size(-1), 1) > 0;
  return at::where(sees_others, means_of(sums), in.value).transpose(1, 2);
}

}  // namespace yoso::nn
