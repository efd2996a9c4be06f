// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <gmock/gmock.h>
#include <torch/csrc/autograd/autograd.h>

#include "yoso/core/testing.h"
#include "yoso/models/model.h"

namespace yoso {
namespace {

using at::Tensor;
using ::testing::ElementsAre;

ModelConfig config_of(const std::string& kind, const std::string& attention) {
  ModelConfig config;
  config.kind = kind;
  config.num_classes = 3;
  config.encoder.vocab_size = 11;
  config.encoder.max_length = 20;
  config.encoder.hidden = 16;
  config.encoder.feed_forward = 24;
  config.encoder.attention.kind = attention;
  config.encoder.attention.yoso.mode = Mode::kSampled;
  config.encoder.attention.yoso.num_hashes = 4;
  return config;
}

std::shared_ptr<Model> model_of(const ModelConfig& config) {
  at::set_num_threads(1);  // tiny tensors: a second thread costs more than it gives
  at::manual_seed(8);
  return make_model(config);
}

// The first lengths[b] of `columns` tokens are real, the rest hold tokens all the same.
struct Tokens {
  Tensor tokens, mask;
};

Tokens tokens_of(std::vector<int64_t> lengths, int64_t columns) {
  at::manual_seed(9);
  const int64_t batch = static_cast<int64_t>(lengths.size());
  return {at::randint(1, 11, {batch, columns}, at::kLong),
          at::arange(columns).unsqueeze(0) < at::tensor(lengths).unsqueeze(1)};
}

TEST(Models, UnknownKindIsRefusedWithTheKnownOnes) {
  EXPECT_THAT(model_kinds(), ElementsAre("classifier", "dual_classifier", "token_classifier"));
  EXPECT_EQ(
      error_of([] { make_model(config_of("decoder", "none")); }),
      "model.kind is 'decoder', expected one of classifier, dual_classifier, token_classifier");
}

TEST(Models, NameTheFieldThatIsWrong) {
  const auto with = [](const std::function<void(ModelConfig&)>& change) {
    ModelConfig config = config_of("classifier", "none");
    change(config);
    return error_of([&] { make_model(config); });
  };
  EXPECT_EQ(with([](auto& c) { c.num_classes = 0; }),
            "model.num_classes is 0, expected at least 1");
  EXPECT_EQ(with([](auto& c) { c.encoder.vocab_size = 0; }),
            "encoder.vocab_size is 0, expected at least 1");
  EXPECT_EQ(with([](auto& c) { c.encoder.max_length = -1; }),
            "encoder.max_length is -1, expected at least 1");
  EXPECT_EQ(with([](auto& c) { c.encoder.layers = 0; }),
            "encoder.layers is 0, expected at least 1");
  EXPECT_EQ(with([](auto& c) {
              c.encoder.ngrams = {3, 3};
            }),
            "encoder.ngrams has 3 twice, expected different lengths");
}

TEST(Models, RefuseTokensBeyondTheirPositions) {
  const auto model = model_of(config_of("classifier", "none"));
  const Tokens batch = tokens_of({21, 3}, 21);
  EXPECT_EQ(error_of([&] { model->forward(batch.tokens, batch.mask); }),
            "encoder: tokens is [2, 21], expected [batch, at most max_length = 20]");
  EXPECT_EQ(error_of([&] { model->forward(batch.tokens.slice(1, 0, 5), batch.mask); }),
            "encoder: mask is Bool [2, 21], expected Bool [2, 5]");
}

TEST(Models, PaddingDoesNotChangeTheLogitsOfRealTokens) {
  for (const char* attention : {"none", "softmax", "yoso"}) {
    for (const Pooling pooling : {Pooling::kMean, Pooling::kFirst}) {
      for (const std::string kind : {"classifier", "token_classifier"}) {
        ModelConfig config = config_of(kind, attention);
        config.pooling = pooling;
        config.encoder.attention.yoso.seed = 4;
        const auto model = model_of(config);
        model->eval();
        const Tokens padded = tokens_of({7, 12}, 19);
        const Tensor all = model->forward(padded.tokens, padded.mask)[0];
        const Tensor alone = model->forward(padded.tokens.slice(0, 0, 1).slice(1, 0, 7),
                                            padded.mask.slice(0, 0, 1).slice(1, 0, 7))[0];
        const Tensor real = kind == "classifier" ? all : all.slice(0, 0, 7);
        // Matrix products of other shapes may sum in another order: some float roundings of
        // numbers below 10.
        EXPECT_LE((real - alone).abs().max().item<double>(), 1e-5) << kind << " " << attention;
      }
    }
  }
}

TEST(Models, PaddingDoesNotChangeTheGradients) {
  for (const char* attention : {"none", "softmax", "yoso"}) {
    for (const NormPosition norm : {NormPosition::kPre, NormPosition::kPost}) {
      ModelConfig config = config_of("classifier", attention);
      config.encoder.norm = norm;
      config.encoder.attention.yoso.seed = 4;
      const auto model = model_of(config);
      model->eval();
      const Tokens padded = tokens_of({7, 12}, 19);
      const auto gradients = [&](const Tensor& tokens, const Tensor& mask) {
        const Tensor loss = model->forward(tokens, mask)[0].square().sum();
        return torch::autograd::grad({loss}, model->parameters(), {}, {}, false,
                                     /*allow_unused=*/true);
      };
      const auto all = gradients(padded.tokens, padded.mask);
      const auto alone = gradients(padded.tokens.slice(0, 0, 1).slice(1, 0, 7),
                                   padded.mask.slice(0, 0, 1).slice(1, 0, 7));
      for (size_t i = 0; i < all.size(); ++i) {
        ASSERT_EQ(all[i].defined(), alone[i].defined());
        if (!all[i].defined()) continue;
        // As above, of sums of a few hundred numbers below 10.
        EXPECT_LE((all[i] - alone[i]).abs().max().item<double>(), 1e-4) << attention << " " << i;
      }
    }
  }
}

// As a GPU leaves it out, told only a bound: with room left, with one token to spare, with nothing
// left out.
TEST(Models, PaddingMayBeLeftOutByABound) {
  for (const std::string kind : {"classifier", "dual_classifier", "token_classifier"}) {
    for (const NormPosition norm : {NormPosition::kPre, NormPosition::kPost}) {
      ModelConfig config = config_of(kind, "yoso");
      config.encoder.norm = norm;
      config.encoder.ngrams = {2};
      config.encoder.ngram_buckets = 64;
      config.encoder.attention.yoso.seed = 4;
      const auto model = model_of(config);
      model->eval();
      Tokens batch = tokens_of({7, 12, 0, 3}, 19);
      const Tensor mask = batch.mask;
      if (kind == "dual_classifier") {
        for (Tensor* x : {&batch.tokens, &batch.mask}) *x = x->unflatten(0, {2, 2});
      }
      const auto gradients = [&](std::optional<int64_t> real_below) {
        Tensor logits = model->forward(batch.tokens, batch.mask, real_below);
        if (kind == "token_classifier") logits = logits.index({mask});
        std::vector<Tensor> all =
            torch::autograd::grad({logits.square().sum()}, model->parameters());
        all.push_back(logits);
        return all;
      };
      const auto want = gradients(4 * 19);
      for (const int64_t bound : {22 + 1, 40}) {
        const auto got = gradients(bound);
        for (size_t i = 0; i < got.size(); ++i) {
          // As above.
          EXPECT_LE((got[i] - want[i]).abs().max().item<double>(), 1e-4) << kind << " " << i;
        }
      }
    }
  }
}

TEST(Models, NgramsAreThoseOfTheRealTokens) {
  ModelConfig config = config_of("token_classifier", "none");
  config.encoder.ngrams = {2, 5};
  config.encoder.ngram_buckets = 64;
  const auto model = model_of(config);
  model->eval();
  const Tensor tokens = tokens_of({19}, 19).tokens;
  const auto logits = [&](const Tensor& input, const Tensor& mask) {
    return model->forward(input, mask)[0];
  };
  const Tensor all = logits(tokens, at::ones({1, 19}, at::kBool));
  const Tensor start = tokens.slice(1, 0, 7);
  // Sums in another order, as above.
  const Tensor alone = logits(start, at::ones({1, 7}, at::kBool));
  EXPECT_LE((all.slice(0, 0, 7) - alone).abs().max().item<double>(), 1e-5);

  // Padded on the left by any tokens, the text still starts after padding.
  const Tensor mask = at::arange(19).unsqueeze(0) >= 12;
  const Tensor other = at::cat({tokens.slice(1, 0, 12) % 10 + 1, tokens.slice(1, 12)}, 1);
  EXPECT_TRUE(at::equal(logits(tokens, mask).slice(0, 12), logits(other, mask).slice(0, 12)));
  EXPECT_FALSE(at::equal(all.slice(0, 12, 13), logits(tokens, mask).slice(0, 12, 13)));
}

TEST(Models, AnEmptySequenceHasFiniteLogits) {
  for (const char* attention : {"none", "softmax", "yoso"}) {
    const auto model = model_of(config_of("classifier", attention));
    const Tokens batch = tokens_of({0, 4}, 5);
    EXPECT_TRUE(model->forward(batch.tokens, batch.mask).isfinite().all().item<bool>());
  }
}

TEST(Models, FirstPoolingReadsTheFirstToken) {
  ModelConfig config = config_of("classifier", "none");
  config.pooling = Pooling::kFirst;
  const auto model = model_of(config);
  model->eval();
  const Tokens batch = tokens_of({5}, 5);
  Tensor other = batch.tokens.clone();
  other.slice(1, 1).fill_(1);
  EXPECT_TRUE(
      at::equal(model->forward(batch.tokens, batch.mask), model->forward(other, batch.mask)));
}

TEST(Models, SharedLayersHaveTheParametersOfOne) {
  ModelConfig config = config_of("classifier", "yoso");
  config.encoder.layers = 1;
  const size_t one = make_model(config)->parameters().size();
  config.encoder.layers = 3;
  config.encoder.shared_layers = true;
  EXPECT_EQ(make_model(config)->parameters().size(), one);
  config.encoder.shared_layers = false;
  EXPECT_GT(make_model(config)->parameters().size(), one);
}

// Two forwards and backwards in training mode, gradients accumulated.
struct Trained {
  std::vector<Tensor> logits, gradients;
  Tensor next_random;  // where the generator stands afterwards
};

Trained train(ModelConfig config, bool checkpointing, bool autocast) {
  config.activation_checkpointing = checkpointing;
  const auto model = model_of(config);
  const Tokens batch = tokens_of({13, 20, 1}, 20);
  at::manual_seed(10);
  Trained result;
  for (int i = 0; i < 2; ++i) {
    at::autocast::set_autocast_enabled(at::kCPU, autocast);
    const Tensor logits = model->forward(batch.tokens, batch.mask);
    at::autocast::set_autocast_enabled(at::kCPU, false);
    at::autocast::clear_cache();
    result.logits.push_back(logits.detach());
    logits.to(at::kFloat).pow(2).sum().backward();
  }
  for (const Tensor& parameter : model->parameters()) result.gradients.push_back(parameter.grad());
  result.next_random = at::rand({4});
  return result;
}

TEST(Models, ActivationCheckpointingGivesTheSameBits) {
  for (const char* attention : {"none", "softmax", "yoso"}) {
    for (const NormPosition norm : {NormPosition::kPre, NormPosition::kPost}) {
      for (const bool shared : {false, true}) {
        for (const bool autocast : {false, true}) {
          ModelConfig config = config_of("classifier", attention);
          config.encoder.norm = norm;
          config.encoder.shared_layers = shared;
          config.encoder.dropout = 0.3;
          const Trained plain = train(config, /*checkpointing=*/false, autocast);
          const Trained recomputed = train(config, /*checkpointing=*/true, autocast);
          const std::string name =
              join(attention, shared ? " shared" : "", autocast ? " bf16" : "");
          for (size_t i = 0; i < plain.logits.size(); ++i) {
            EXPECT_TRUE(at::equal(plain.logits[i], recomputed.logits[i])) << name;
          }
          for (size_t i = 0; i < plain.gradients.size(); ++i) {
            ASSERT_EQ(plain.gradients[i].defined(), recomputed.gradients[i].defined());
            if (!plain.gradients[i].defined()) continue;
            EXPECT_TRUE(at::equal(plain.gradients[i], recomputed.gradients[i])) << name << " " << i;
          }
          EXPECT_TRUE(at::equal(plain.next_random, recomputed.next_random)) << name;
        }
      }
    }
  }
}

TEST(Models, SampledEvaluationRepeatsWithTheGenerator) {
  const auto model = model_of(config_of("classifier", "yoso"));
  model->eval();
  const Tokens batch = tokens_of({13, 20}, 20);
  const auto logits = [&](uint64_t seed) {
    at::manual_seed(seed);
    return model->forward(batch.tokens, batch.mask);
  };
  EXPECT_TRUE(at::equal(logits(1), logits(1)));
  EXPECT_FALSE(at::equal(logits(1), logits(2)));
}

}  // namespace
}  // namespace yoso
