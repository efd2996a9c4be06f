// What the tests of attention kinds share: inputs, dense softmax in double, gradients by finite
// differences. YOSO_TEST_DEVICE=cuda runs the same tests on a GPU.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <string_view>
#include <vector>

#include "yoso/nn/attention.h"
#include "yoso/torch/load_cuda.h"

namespace yoso::nn {

inline at::Device test_device() {
  const char* name = std::getenv("YOSO_TEST_DEVICE");
  return at::Device(name == nullptr ? "cpu" : name);
}

class DeviceEnvironment : public testing::Environment {
  void SetUp() override {
    if (test_device().is_cuda() && !load_cuda().empty())
      GTEST_SKIP() << "no GPU to test on: " << load_cuda();
  }
};
inline const auto* const kDeviceEnvironment =
    testing::AddGlobalTestEnvironment(new DeviceEnvironment);

constexpr int64_t kHeads = 2, kWidth = 8;

// [B, N, kHeads, kWidth]; mask [B, N], the first lengths[b] tokens real.
struct Inputs {
  at::Tensor query, key, value, mask;
};

inline Inputs inputs_of(const std::vector<int64_t>& lengths, int64_t tokens,
                        at::ScalarType type = at::kDouble) {
  at::manual_seed(5);
  const int64_t batch = static_cast<int64_t>(lengths.size());
  const auto random = [&] {
    return at::randn({batch, tokens, kHeads, kWidth}).to(test_device(), type).requires_grad_(true);
  };
  Inputs in{.query = random(), .key = random(), .value = random(), .mask = {}};
  in.mask = (at::arange(tokens).unsqueeze(0) < at::tensor(lengths).unsqueeze(1)).to(test_device());
  return in;
}

// Sequence b of the batch without its padding and without a mask.
inline Inputs alone(const Inputs& in, int64_t b) {
  const int64_t length = in.mask[b].sum().item<int64_t>();
  const auto part = [&](const at::Tensor& x) { return x.narrow(0, b, 1).narrow(1, 0, length); };
  return {.query = part(in.query), .key = part(in.key), .value = part(in.value), .mask = {}};
}

inline std::shared_ptr<Attention> attention_of(AttentionConfig config,
                                               at::ScalarType type = at::kDouble) {
  at::manual_seed(3);
  config.heads = kHeads;
  config.head_width = kWidth;
  if (config.max_length == 0) config.max_length = 2048;
  const auto attention = make_attention(config);
  attention->to(test_device(), type);
  return attention;
}

// Forward with the same draws in every call.
inline at::Tensor run(Attention& attention, const Inputs& in, uint64_t seed = 9) {
  at::manual_seed(seed);
  return attention.forward(in.query, in.key, in.value, in.mask);
}

// softmax(q k' / sqrt(D) where allowed) v, dense; allowed [..., N, N] broadcasts over [B, H, N, N].
inline at::Tensor softmax_formula(const Inputs& in, const at::Tensor& allowed) {
  const auto heads_first = [](const at::Tensor& x) { return x.transpose(1, 2).to(at::kDouble); };
  const at::Tensor scores = at::matmul(heads_first(in.query), heads_first(in.key).transpose(2, 3)) /
                            std::sqrt(static_cast<double>(in.query.size(-1)));
  const at::Tensor weights =
      scores.masked_fill(allowed.logical_not(), -std::numeric_limits<double>::infinity())
          .softmax(-1);
  return at::matmul(weights, heads_first(in.value)).transpose(1, 2);
}

inline at::Tensor softmax_formula(const Inputs& in) {
  return softmax_formula(in, in.mask.unsqueeze(1).unsqueeze(1));
}

// The largest difference among real tokens.
inline double difference(const at::Tensor& a, const at::Tensor& b, const at::Tensor& mask) {
  const at::Tensor distance = (a - b).abs();
  return distance.masked_fill(mask.logical_not().unsqueeze(-1).unsqueeze(-1), 0)
      .max()
      .item<double>();
}

// Compares the gradients of sum(out * fixed numbers) with central differences along one direction
// in all inputs and parameters at once: their relative difference. In double a step of 1e-5 leaves
// an error of 1e-10 from the third derivative and 1e-11 from rounding, each times what the
// function's own numbers are; derivatives of order 10 make it 1e-8.
inline double gradient_error(Attention& attention, const Inputs& in) {
  at::Tensor out = run(attention, in);
  const at::Tensor weights = at::randn(out.sizes()).to(out.options());
  const at::Tensor real = in.mask.unsqueeze(-1).unsqueeze(-1);
  const auto value = [&] { return (run(attention, in) * weights * real).sum(); };

  std::vector<at::Tensor> leaves{in.query, in.key, in.value};
  for (const at::Tensor& parameter : attention.parameters()) leaves.push_back(parameter);
  std::vector<at::Tensor> directions;
  at::manual_seed(7);
  for (at::Tensor& leaf : leaves) {
    leaf.mutable_grad() = at::Tensor();
    directions.push_back(at::randn(leaf.sizes()).to(leaf.options()));
  }
  value().backward();
  double slope = 0;
  for (size_t i = 0; i < leaves.size(); ++i)
    if (leaves[i].grad().defined())
      slope += (leaves[i].grad() * directions[i]).sum().item<double>();

  const at::NoGradGuard no_grad;
  constexpr double kStep = 1e-5;
  const auto moved = [&](double step) {
    for (size_t i = 0; i < leaves.size(); ++i) leaves[i].add_(directions[i], step);
    return value().item<double>();
  };
  const double up = moved(kStep), down = moved(-2 * kStep);
  moved(kStep);
  return std::abs((up - down) / (2 * kStep) - slope) / std::max(1.0, std::abs(slope));
}

}  // namespace yoso::nn
