// SPDX-License-Identifier: Apache-2.0
#include "yoso/models/dual_classifier.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <torch/optim/adam.h>

#include "yoso/core/testing.h"

namespace yoso {
namespace {

std::shared_ptr<Model> model_of(int64_t length) {
  at::set_num_threads(1);
  at::manual_seed(3);
  ModelConfig config;
  config.kind = "dual_classifier";
  config.num_classes = 2;
  config.encoder.vocab_size = 6;
  config.encoder.max_length = length;
  config.encoder.hidden = 16;
  config.encoder.feed_forward = 32;
  config.encoder.layers = 1;
  config.encoder.dropout = 0;
  config.encoder.attention.kind = "softmax";
  config.encoder.attention.heads = 2;
  return make_model(config);
}

at::Tensor whole(const at::Tensor& tokens) { return at::ones_like(tokens, at::kBool); }

TEST(DualClassifier, EncodesEachSequenceAlone) {
  const auto model = model_of(8);
  const at::NoGradGuard no_grad;
  const at::Tensor tokens = at::randint(1, 6, {3, 2, 8}, at::kLong);
  const at::Tensor logits = model->forward(tokens, whole(tokens));
  EXPECT_EQ(logits.sizes(), (std::vector<int64_t>{3, 2}));
  // A pair's logits do not depend on the others of its batch.
  const at::Tensor alone = model->forward(tokens.narrow(0, 1, 1), whole(tokens.narrow(0, 1, 1)));
  EXPECT_TRUE(at::allclose(alone[0], logits[1], 1e-5, 1e-6));
  // They do depend on both sequences and on which is first (x0 - x1).
  EXPECT_FALSE(at::allclose(model->forward(tokens.flip(1), whole(tokens)), logits, 1e-5, 1e-6));
}

TEST(DualClassifier, PaddingDoesNotChangeTheLogits) {
  const auto model = model_of(12);
  const at::NoGradGuard no_grad;
  const at::Tensor tokens = at::randint(1, 6, {2, 2, 8}, at::kLong);
  const at::Tensor padded = at::constant_pad_nd(tokens, {0, 4});
  EXPECT_TRUE(at::allclose(model->forward(padded, padded.ne(0)),
                           model->forward(tokens, whole(tokens)), 1e-5, 1e-6));
}

// Label 1: both sequences have the same first token. Neither alone says anything.
TEST(DualClassifier, LearnsWhetherTwoSequencesAgree) {
  const auto model = model_of(4);
  torch::optim::Adam adam(model->parameters(), 3e-3);
  const auto draw = [](int64_t count) {
    at::Tensor tokens = at::randint(1, 6, {count, 2, 4}, at::kLong);
    const at::Tensor same = at::rand({count}).lt(0.5);
    const at::Tensor first = tokens.select(2, 0);
    first.select(1, 1).copy_(at::where(same, first.select(1, 0), first.select(1, 0) % 5 + 1));
    return std::pair{tokens, same.to(at::kLong)};
  };
  for (int64_t step = 0; step < 400; ++step) {
    const auto [tokens, labels] = draw(64);
    at::cross_entropy_loss(model->forward(tokens, whole(tokens)), labels).backward();
    adam.step();
    adam.zero_grad();
  }
  const auto [tokens, labels] = draw(1000);
  const auto right =
      model->forward(tokens, whole(tokens)).argmax(-1).eq(labels).sum().item<int64_t>();
  EXPECT_GT(right, 900);  // chance is 500, with a deviation of 16
}

TEST(DualClassifier, RefusesWhatAreNoPairs) {
  const auto model = model_of(8);
  const at::Tensor tokens = at::ones({2, 8}, at::kLong);
  EXPECT_EQ(error_of([&] { model->forward(tokens, whole(tokens)); }),
            "dual_classifier: tokens is [2, 8], expected [batch, 2, length]");
  const at::Tensor pairs = at::ones({2, 2, 8}, at::kLong);
  EXPECT_EQ(error_of([&] { model->forward(pairs, whole(tokens)); }),
            "dual_classifier: mask is [2, 8], expected [2, 2, 8]");
}

}  // namespace
}  // namespace yoso
