// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/skein_attention.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "yoso/core/check.h"
#include "yoso/nn/draws.h"
#include "yoso/nn/heads.h"

namespace yoso::nn {
namespace {

using at::Tensor;

enum Stream : uint32_t { kPilots, kColumns };

// Rows [B, H, d, D] of x [B, H, N, D] by index [B, H, d].
Tensor rows_of(const Tensor& x, const Tensor& index) {
  return x.gather(2, index.unsqueeze(-1).expand({-1, -1, -1, x.size(-1)}));
}

struct Sample {
  Sample(const Heads& in, int64_t most)
      : tokens(in.count.clamp_min(1).view({-1, 1, 1})),
        size(tokens.clamp_max(most)),
        used(at::arange(most, tokens.options()).view({1, 1, most}) < size) {}

  // [B, 1, 1] int64: real tokens and how many of them are sampled; of a sequence without any, one.
  Tensor tokens, size;
  Tensor used;  // [B, 1, d] bool: the first `size`
};

// Positions [B, H, d] of real tokens, uniform and independent; those not used repeat the first one.
Tensor draw_pilots(const Heads& in, const Sample& sample, int64_t seed) {
  const int64_t heads = in.query.size(1), size = sample.used.size(-1);
  const Tensor share = Draws{seed, kPilots, in.query.device()}.uniforms(heads, size).unsqueeze(0);
  const Tensor rank = (share.to(at::kDouble) * sample.tokens).to(at::kLong);  // rounded down
  const Tensor positions = std::get<1>(in.real.logical_not().to(at::kByte).sort(
      /*stable=*/true, /*dim=*/1, /*descending=*/false));
  const Tensor drawn = positions.unsqueeze(1).expand({-1, heads, -1}).gather(2, rank);
  return at::where(sample.used, drawn, drawn.narrow(2, 0, 1));
}

// Positions [B, H, d] without replacement, by weights ~ the norms of the pilots' columns times
// those of the values: the largest of log weight + Gumbel noise. queries [B, H, d, D]: the pilots'.
Tensor draw_columns(const Heads& in, const Tensor& queries, int64_t count, int64_t seed) {
  const at::NoGradGuard no_grad;
  Tensor pilots = at::matmul(queries * in.scale(), in.key.transpose(-2, -1));  // [B, H, d, N]
  pilots.masked_fill_(in.visible_keys().logical_not(), -std::numeric_limits<double>::infinity());
  pilots.sub_(pilots.amax(-1, /*keepdim=*/true)).exp_();
  pilots.div_(pilots.sum(-1, /*keepdim=*/true));
  const Tensor norms = wide(at::linalg_vector_norm(pilots, 2, -2));
  const Tensor weights = norms * wide(in.value).norm(2, -1);
  const Tensor noise = Draws{seed, kColumns, in.query.device()}
                           .uniforms(in.query.size(1), in.query.size(2))
                           .log()
                           .neg()
                           .log()
                           .neg();
  // A weight of 0 comes after all others, and still before padding.
  const Tensor order = (weights.clamp_min(std::numeric_limits<float>::min()).log() + noise)
                           .masked_fill(in.real.logical_not().unsqueeze(1),
                                        -std::numeric_limits<double>::infinity());
  return std::get<1>(order.topk(count));
}

// Logarithms [..., n] of `type` whose exponentials sum to `count` [...], float: one, or of a type
// of 16 bits, which has two or three digits, three of which each adds what the ones before miss.
Tensor logarithms(const Tensor& count, at::ScalarType type) {
  const bool is_narrow = type == at::kHalf || type == at::kBFloat16;
  std::vector<Tensor> parts;
  Tensor rest = count;
  for (int i = 0; i < (is_narrow ? 3 : 1); ++i) {
    const Tensor exact = rest.log();
    // Those before the last are below what they stand for, rounded or not.
    parts.push_back(is_narrow && i < 2 ? (exact - exact.abs() / 64).to(type) : exact.to(type));
    rest = (rest - parts.back().to(rest.scalar_type()).exp()).clamp_min(0);
  }
  return at::stack(parts, -1);
}

// out with the rows that pilots computed, `exact` [B, H, d, D] at `places` [B, H, d].
Tensor with_pilots(const Tensor& out, const Tensor& exact, const Tensor& places) {
  // Read back and not written: a row drawn twice is then one of the two, with one gradient.
  const Tensor index = at::arange(places.size(2), places.options()).expand_as(places);
  const Tensor pilot = at::full({out.size(0), out.size(1), out.size(2)}, -1, places.options())
                           .scatter_reduce(2, places, index, "amax");
  return at::where((pilot >= 0).unsqueeze(-1), rows_of(exact, pilot.clamp_min(0)), out);
}

}  // namespace

SkeinAttention::SkeinAttention(const AttentionConfig& config) : options_(config.skein) {
  if (options_.samples < 1) {
    fail("attention.skein.samples is ", options_.samples, ", expected at least 1");
  }
}

Tensor SkeinAttention::forward(const Tensor& query, const Tensor& key, const Tensor& value,
                               const Tensor& mask) {
  if (value.numel() == 0) return value;
  const Heads in(query, key, value, mask);
  const Sample sample(in, std::min(options_.samples, value.size(1)));
  const int64_t seed = seed_or_draw(options_.seed);

  const Tensor places = draw_pilots(in, sample, seed);
  const Tensor queries = rows_of(in.query, places);
  const Tensor exact =
      at::scaled_dot_product_attention(queries, in.key, in.value, in.visible_keys());

  // Rows that are not used are padding: 0.
  const Tensor columns = draw_columns(in, queries, sample.used.size(-1), seed);
  const Tensor keys = rows_of(in.key, columns), values = rows_of(in.value, columns);
  const Tensor size = sample.size.unsqueeze(-1), others = sample.tokens.unsqueeze(-1) - size;
  const at::ScalarType type = in.query.scalar_type();
  const at::ScalarType wide_type = type == at::kDouble ? at::kDouble : at::kFloat;
  const auto sum = [&](const Tensor& x) { return x.sum(2, /*keepdim=*/true, wide_type); };
  const Tensor mean_key = sum(keys) / size;
  const Tensor other_value = (sum(in.value) - sum(values)) / others.clamp_min(1);

  const Tensor unsampled = logarithms(others.squeeze(-1).to(wide_type), type);  // [B, 1, 1, 1 or 3]
  const Tensor sampled = at::zeros_like(sample.used, sample.used.options().dtype(type))
                             .masked_fill(sample.used.logical_not(),
                                          -std::numeric_limits<float>::infinity())
                             .unsqueeze(1);  // [B, 1, 1, d]
  const auto with_mean = [&](const Tensor& x, const Tensor& mean) {
    return at::cat({x, mean.to(type).expand({-1, -1, unsampled.size(-1), -1})}, 2);
  };
  const Tensor out = at::scaled_dot_product_attention(in.query, with_mean(keys, mean_key),
                                                      with_mean(values, other_value),
                                                      at::cat({sampled, unsampled}, -1));
  return with_pilots(out, exact, places).to(value.scalar_type()).transpose(1, 2);
}

}  // namespace yoso::nn
