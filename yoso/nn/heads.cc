// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/heads.h"

#include <cmath>
#include <limits>

#include "yoso/core/check.h"

namespace yoso::nn {

using at::Tensor;

Heads::Heads(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask) {
  const auto rows = [&](const Tensor& x) {
    const Tensor heads_first = x.transpose(1, 2);
    if (!mask.defined()) return heads_first;
    return heads_first.masked_fill(mask.logical_not().unsqueeze(1).unsqueeze(-1), 0);
  };
  query = rows(q);
  key = rows(k);
  value = rows(v);
  real = mask.defined() ? mask : at::ones({q.size(0), q.size(1)}, q.options().dtype(at::kBool));
  count = real.sum(1);
}

double Heads::scale() const { return 1 / std::sqrt(static_cast<double>(query.size(-1))); }

Tensor Heads::real_rows(const Tensor& x) const {
  return x.masked_fill(real.logical_not().unsqueeze(1).unsqueeze(-1), 0);
}

Tensor Heads::real_keys() const { return real.unsqueeze(1).unsqueeze(1); }

Tensor Heads::visible_keys() const {
  return real.logical_or(count.unsqueeze(1) == 0).unsqueeze(1).unsqueeze(1);
}

Tensor wide(const Tensor& x) {
  return x.scalar_type() == at::kHalf || x.scalar_type() == at::kBFloat16 ? x.to(at::kFloat) : x;
}

Tensor masked_softmax(const Tensor& scores, const Tensor& allowed) {
  const Tensor forbidden = allowed.logical_not();
  // Lowest and not -infinity: a row that is allowed nothing is even, and 0 in the end, without NaN.
  return wide(scores)
      .masked_fill(forbidden, std::numeric_limits<float>::lowest())
      .softmax(-1)
      .masked_fill(forbidden, 0);
}

Tensor feature_attention(const Tensor& query_features, const Tensor& key_features,
                         const Tensor& value) {
  const Tensor sums = at::matmul(key_features.transpose(-2, -1), value);  // [B, H, F, D]
  const Tensor total = key_features.sum(-2).unsqueeze(-1);                // [B, H, F, 1]
  const Tensor weight = wide(at::matmul(query_features, total));
  return at::matmul(query_features, sums) / weight.masked_fill(weight <= 0, 1);
}

Tensor initial_convolution(const char* name, int64_t heads, int64_t width) {
  if (width < 1 || width % 2 == 0) fail(name, " is ", width, ", expected 0 or an odd number");
  const double bound = 1 / std::sqrt(static_cast<double>(width));
  return at::empty({heads, width}).uniform_(-bound, bound);
}

}  // namespace yoso::nn
