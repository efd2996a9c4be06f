// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/heads.h"

#include <cmath>
#include <limits>
#include <vector>

#include "yoso/core/check.h"

namespace yoso::nn {

using at::Tensor;

constexpr int64_t kColumns = 8;

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

Tensor Heads::real_keys() const { return real.unsqueeze(1).unsqueeze(1); }

Tensor Heads::real_rows() const { return real.unsqueeze(1).unsqueeze(-1); }

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

Tensor with_column(const Tensor& x, const Tensor& column) {
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = 1;
  const Tensor last = column.to(x.scalar_type()).expand(sizes);
  return at::cat({x, at::constant_pad_nd(last, {0, kColumns - 1})}, -1);
}

Tensor means_of(const Tensor& sums) {
  const int64_t width = sums.size(-1) - kColumns;
  const Tensor weight = sums.narrow(-1, width, 1);
  return sums.narrow(-1, 0, width) / weight.masked_fill(weight <= 0, 1);
}

Tensor hide_keys(const Tensor& key, const Tensor& seen) {
  // Finite: a row that sees nothing is an even mean.
  const double hidden = key.scalar_type() == at::kHalf ? -6e4 : -1e30;
  return with_column(key,
                     at::zeros_like(seen, key.options()).masked_fill(seen.logical_not(), hidden));
}

Tensor feature_attention(const Heads& in, const Tensor& query_features,
                         const Tensor& key_features) {
  // Features of padding meet rows of zeros.
  const Tensor rows = with_column(in.value, in.real_rows()).to(key_features.scalar_type());
  const Tensor sums = at::matmul(key_features.transpose(-2, -1), rows);  // [B, H, F, D + 8]
  return means_of(at::matmul(query_features, sums));
}

Tensor initial_convolution(const char* name, int64_t heads, int64_t width) {
  if (width < 1 || width % 2 == 0) fail(name, " is ", width, ", expected 0 or an odd number");
  const double bound = 1 / std::sqrt(static_cast<double>(width));
  return at::empty({heads, width}).uniform_(-bound, bound);
}

}  // namespace yoso::nn
