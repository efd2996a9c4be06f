// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/encoder_block.h"

#include <gtest/gtest.h>

#include "yoso/core/testing.h"

namespace yoso::nn {
namespace {

using at::Tensor;

std::string message_of(const EncoderBlockConfig& config) {
  return error_of([&] { EncoderBlock block(config); });
}

EncoderBlockConfig config_of(NormPosition norm) {
  EncoderBlockConfig config{.hidden = 6, .feed_forward = 10, .dropout = 0, .norm = norm};
  config.attention.kind = "none";
  return config;
}

// The two formulas of the header with attention that passes values through, by parameter name.
Tensor formula(const EncoderBlock& block, const Tensor& x, NormPosition position) {
  const auto p = block.named_parameters();
  const auto linear = [&](const std::string& name, const Tensor& input) {
    return at::linear(input, p[name + ".weight"], p[name + ".bias"]);
  };
  const auto norm = [&](const std::string& name, const Tensor& input) {
    return at::layer_norm(input, {6}, p[name + ".weight"], p[name + ".bias"]);
  };
  const auto attend = [&](const Tensor& input) { return linear("out", linear("value", input)); };
  const auto feed_forward = [&](const Tensor& input) {
    return linear("narrow", at::gelu(linear("widen", input)));
  };
  if (position == NormPosition::kPre) {
    const Tensor y = x + attend(norm("attention_norm", x));
    return y + feed_forward(norm("feed_forward_norm", y));
  }
  const Tensor y = norm("attention_norm", x + attend(x));
  return norm("feed_forward_norm", y + feed_forward(y));
}

TEST(EncoderBlock, IsItsFormula) {
  for (const NormPosition position : {NormPosition::kPre, NormPosition::kPost}) {
    at::manual_seed(2);
    EncoderBlock block(config_of(position));
    const Tensor x = at::randn({2, 5, 6});
    EXPECT_TRUE(at::equal(block.forward(x, {}), formula(block, x, position)));
  }
}

TEST(EncoderBlock, DropsOutInTrainingOnly) {
  EncoderBlockConfig config = config_of(NormPosition::kPre);
  config.dropout = 0.5;
  EncoderBlock block(config);
  const Tensor x = at::randn({2, 5, 6});
  EXPECT_FALSE(at::equal(block.forward(x, {}), block.forward(x, {})));
  block.eval();
  EXPECT_TRUE(at::equal(block.forward(x, {}), block.forward(x, {})));
}

TEST(EncoderBlock, NamesTheFieldThatIsWrong) {
  EncoderBlockConfig config = config_of(NormPosition::kPre);
  config.attention.heads = 4;
  EXPECT_EQ(message_of(config), "hidden is 6, expected a multiple of attention.heads = 4");
  config.attention.heads = 0;
  EXPECT_EQ(message_of(config), "attention.heads is 0, expected at least 1");
  config = config_of(NormPosition::kPre);
  config.feed_forward = 0;
  EXPECT_EQ(message_of(config), "feed_forward is 0, expected at least 1");
  config = config_of(NormPosition::kPre);
  config.dropout = 1;
  EXPECT_EQ(message_of(config), "dropout is 1, expected at least 0 and below 1");
}

}  // namespace
}  // namespace yoso::nn
