// Checkpoints of transformers against the logits that it computes: those in testdata, or those in
// the folder that YOSO_REFERENCES names (tests/references/transformers_cases.py writes both).
// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/transformers_checkpoint.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "yoso/core/check.h"
#include "yoso/core/file.h"
#include "yoso/core/testing.h"
#include "yoso/train/safetensors.h"

namespace yoso {
namespace {

namespace fs = std::filesystem;
using at::Tensor;
using ::testing::HasSubstr;

const char* elsewhere() { return std::getenv("YOSO_REFERENCES"); }
std::string folder() { return elsewhere() == nullptr ? YOSO_TESTDATA : elsewhere(); }

std::vector<std::string> cases() {
  std::istringstream lines(read_text(folder() + "/cases.txt"));
  std::vector<std::string> names;
  for (std::string name; std::getline(lines, name);) names.push_back(folder() + "/" + name);
  return names;
}

// Tokens, and what transformers makes of them: of every sequence alone, and of the padded batch.
struct Batch {
  Tensor tokens, types, lengths, logits, padded_logits;

  Tensor mask() const {
    return at::arange(tokens.size(1)).unsqueeze(0) < lengths.unsqueeze(1);  // [B, N]
  }
};

Batch read_batch(const std::string& name) {
  const SafetensorsFile file(name + "/cases.safetensors");
  const auto tensor = [&](const char* key) {
    const TensorView& view = *file.content().find(key);
    Tensor copy = at::empty(view.shape, view.dtype == "I64" ? at::kLong : at::kFloat);
    std::memcpy(copy.mutable_data_ptr(), view.bytes.data(), view.bytes.size());
    return copy;
  };
  return {tensor("tokens"), tensor("types"), tensor("lengths"), tensor("logits"),
          tensor("padded_logits")};
}

std::shared_ptr<TransformersModel> read_model(const std::string& name,
                                              PaddingMode padding = PaddingMode::kStrict) {
  const auto model = read_transformers_model(name, read_transformers_config(name), padding);
  model->eval();
  return model;
}

// Rows of padding, in logits of tokens, set to the 0 of the references.
Tensor without_padding(const Tensor& logits, const Batch& batch) {
  if (logits.dim() == 2) return logits;
  return logits.masked_fill(batch.mask().logical_not().unsqueeze(-1), 0);
}

double difference(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

// float: the limit that users are promised.
constexpr double kBound = 1e-4;

class Transformers : public ::testing::Test {
 protected:
  // A copy of a case, its config.json with `from` replaced by `to`.
  std::string copy(const std::string& name, const std::string& from = "",
                   const std::string& to = "") {
    fs::copy(folder() + "/" + name, path_,
             fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    std::string config = read_text(path_ + "/config.json");
    const size_t at = config.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    folder_.write("config.json", config.replace(at, from.size(), to));
    return path_;
  }

  std::string refusal(const std::string& name, const std::string& from, const std::string& to) {
    const std::string copied = copy(name, from, to);
    std::string message = error_of([&] { read_model(copied); });
    if (message.starts_with(copied)) message = message.substr(copied.size());
    return message;
  }

  const TestFolder folder_;
  const std::string path_ = folder_.path();
};

TEST_F(Transformers, LogitsOfARaggedBatchAreThoseOfTransformers) {
  const at::NoGradGuard no_grad;
  for (const std::string& name : cases()) {
    const Batch batch = read_batch(name);
    const Tensor logits = read_model(name)->forward(batch.tokens, batch.mask(), batch.types);
    ASSERT_EQ(logits.sizes(), batch.logits.sizes()) << name;
    EXPECT_LE(difference(without_padding(logits, batch), batch.logits), kBound) << name;
  }
}

TEST_F(Transformers, PaddingCountsAsTextWhereThatIsAskedFor) {
  const at::NoGradGuard no_grad;
  int64_t compared = 0;
  for (const std::string& name : cases()) {
    if (read_transformers_config(name).attention.conv_width > 0) continue;
    const Batch batch = read_batch(name);
    const auto model = read_model(name, PaddingMode::kTransformers);
    const Tensor logits = model->forward(batch.tokens, batch.mask(), batch.types);
    EXPECT_LE(difference(logits, batch.padded_logits), kBound) << name;
    // And that is another function: the test above would not pass with it.
    EXPECT_GT(difference(without_padding(logits, batch), batch.logits), kBound) << name;
    ++compared;
  }
  EXPECT_GE(compared, 3);
  EXPECT_EQ(error_of([&] { read_model(folder() + "/token", PaddingMode::kTransformers); }),
            "transformers: padding mode is transformers with conv_window = 3, expected strict");
}

TEST_F(Transformers, MultipleChoiceScoresEveryChoice) {
  const at::NoGradGuard no_grad;
  const std::string name = folder() + "/choice";
  const Batch batch = read_batch(name);
  const Tensor scores = read_model(name)->forward(
      batch.tokens.unsqueeze(0), batch.mask().unsqueeze(0), batch.types.unsqueeze(0));
  ASSERT_EQ(scores.sizes(), (std::vector<int64_t>{1, 3}));
  EXPECT_LE(difference(scores.squeeze(0), batch.logits.squeeze(1)), kBound);
}

TEST_F(Transformers, WhatIsWrittenReadsBackToTheBit) {
  for (const std::string& name : cases()) {
    const auto model = read_model(name);
    // Where the script asked for this run, it shows these to transformers afterwards.
    const std::string written = elsewhere() == nullptr ? path_ + "/written" : name + "/written";
    write_transformers_model(written, *model);
    const auto again = read_model(written);
    const auto before = model->weights(), after = again->weights();
    ASSERT_EQ(before.size(), after.size());
    for (size_t i = 0; i < before.size(); ++i) {
      EXPECT_EQ(before[i].first, after[i].first);
      EXPECT_TRUE(at::equal(before[i].second, after[i].second)) << name << " " << before[i].first;
    }
    EXPECT_EQ(again->config().labels, model->config().labels);
  }
}

TEST_F(Transformers, WeightsOf16BitsAreRoundedOnce) {
  const auto model = read_model(folder() + "/token");
  write_transformers_model(path_, *model, at::kBFloat16);
  EXPECT_THAT(read_text(path_ + "/config.json"), HasSubstr("\"dtype\": \"bfloat16\""));
  const auto before = model->weights(), after = read_model(path_)->weights();
  for (size_t i = 0; i < before.size(); ++i)
    EXPECT_TRUE(at::equal(before[i].second.to(at::kBFloat16).to(at::kFloat), after[i].second));
}

TEST_F(Transformers, EveryWeightHasAGradient) {
  for (const std::string& name : cases()) {
    const Batch batch = read_batch(name);
    const auto model = read_model(name);
    model->train();
    model->forward(batch.tokens, batch.mask(), batch.types).pow(2).sum().backward();
    for (const auto& item : model->named_parameters())
      EXPECT_TRUE(item.value().grad().defined()) << name << " " << item.key();
  }
}

TEST_F(Transformers, SamplesWhereTheConfigurationSaysSo) {
  const at::NoGradGuard no_grad;
  const std::string name =
      copy("encoder", "\"use_expectation\": true", "\"use_expectation\": false");
  const auto model = read_model(name);
  EXPECT_EQ(model->config().attention.yoso.mode, Mode::kSampled);
  EXPECT_EQ(model->config().attention.yoso.num_hashes, 64);
  EXPECT_EQ(model->config().attention.yoso.projection, Projection::kHadamard);
  const Batch batch = read_batch(name);
  const auto states = [&](uint64_t seed) {
    at::manual_seed(seed);
    return model->forward(batch.tokens, batch.mask(), batch.types);
  };
  EXPECT_TRUE(at::equal(states(1), states(1)));
  EXPECT_FALSE(at::equal(states(1), states(2)));
  write_transformers_model(path_ + "/written", *model);
  EXPECT_THAT(read_text(path_ + "/written/config.json"), HasSubstr("\"use_expectation\": false"));
}

TEST_F(Transformers, SaysWhichWeightDoesNotFit) {
  EXPECT_EQ(refusal("token", "\"conv_window\": 3", "\"conv_window\": null"),
            "/model.safetensors: has a tensor \"yoso.encoder.layer.0.attention.self.conv.weight\", "
            "which YosoForTokenClassification has not");
  EXPECT_EQ(
      refusal("sequence", "\"conv_window\": null", "\"conv_window\": 5"),
      "/model.safetensors: has no tensor \"yoso.encoder.layer.0.attention.self.conv.weight\", "
      "which YosoForSequenceClassification has");
  EXPECT_EQ(refusal("masked_lm", "\"vocab_size\": 12", "\"vocab_size\": 13"),
            "/model.safetensors: tensor \"yoso.embeddings.word_embeddings.weight\" is [12, 4], "
            "expected [13, 4]");
  EXPECT_EQ(refusal("masked_lm", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false"),
            "/model.safetensors: has no tensor \"cls.predictions.decoder.weight\", which "
            "YosoForMaskedLM has");
  copy("masked_lm");
  fs::remove(path_ + "/model.safetensors");
  EXPECT_THAT(error_of([&] { read_model(path_); }), HasSubstr("/model.safetensors: cannot open"));
  FileWriter file(path_ + "/pytorch_model.bin");
  file.commit();
  EXPECT_THAT(error_of([&] { read_model(path_); }),
              HasSubstr("is not there, but pytorch_model.bin is; tools/pickle_to_safetensors"));
}

TEST_F(Transformers, OldNamesOfWhatIsComputedOrTiedArePassedOver) {
  copy("masked_lm");
  const std::string path = path_ + "/model.safetensors";
  const auto add = [&](const std::string& name, const std::string& like, bool changed) {
    fs::copy(folder() + "/masked_lm/model.safetensors", path, fs::copy_options::overwrite_existing);
    const SafetensorsFile file(path);
    Safetensors content = file.content();
    TensorView view = *content.find(like);
    view.name = name;
    std::vector<std::byte> bytes(view.bytes.begin(), view.bytes.end());
    if (changed) bytes[0] ^= std::byte{1};
    view.bytes = bytes;
    content.tensors.push_back(view);
    write_safetensors(path, content);
  };
  add("yoso.embeddings.position_ids", "cls.predictions.bias", false);
  EXPECT_EQ(error_of([&] { read_model(path_); }), "no error");
  for (const auto& [name, like] :
       {std::pair("cls.predictions.decoder.weight", "yoso.embeddings.word_embeddings.weight"),
        std::pair("cls.predictions.decoder.bias", "cls.predictions.bias")}) {
    add(name, like, false);
    EXPECT_EQ(error_of([&] { read_model(path_); }), "no error");
    add(name, like, true);
    EXPECT_EQ(error_of([&] { read_model(path_); }),
              join(path, ": tensor \"", name, "\" differs from \"", like,
                   "\", expected the same with tie_word_embeddings"));
  }
}

TEST_F(Transformers, SaysWhatInTheConfigurationIsOfAnotherModel) {
  EXPECT_EQ(refusal("token", "\"yoso\"", "\"bert\""),
            "/config.json: model_type is \"bert\", expected \"yoso\"");
  EXPECT_EQ(refusal("token", "YosoForTokenClassification", "YosoForCausalLM"),
            "/config.json: architectures is \"YosoForCausalLM\", expected one of YosoModel, "
            "YosoForMaskedLM, YosoForSequenceClassification, YosoForTokenClassification, "
            "YosoForMultipleChoice, YosoForQuestionAnswering");
  EXPECT_EQ(refusal("token", "\"gelu\"", "\"relu\""),
            "/config.json: hidden_act is \"relu\", expected \"gelu\"");
  EXPECT_EQ(refusal("token", "\"conv_window\": 3", "\"conv_window\": 4"),
            "/config.json: conv_window is 4, expected an odd number");
  EXPECT_EQ(refusal("token", "\"num_attention_heads\": 2", "\"num_attention_heads\": 3"),
            "/config.json: hidden_size is 4, expected a multiple of num_attention_heads = 3");
  EXPECT_EQ(refusal("token", "\"hidden_size\": 4", "\"hidden_size\": \"4\""),
            "/config.json: hidden_size is \"4\", expected a whole number from 0 to 2147483647");
  EXPECT_EQ(refusal("token", "\"id2label\"", "\"num_labels\": 10001, \"names\""),
            "/config.json: num_labels is 10001, expected at most 10000 without id2label");
  EXPECT_EQ(refusal("token", "\"num_hidden_layers\": 1", "\"num_hidden_layers\": 0"),
            "/config.json: num_hidden_layers is 0, expected at least 1");
  EXPECT_EQ(refusal("token", "\"1\": \"yes\"", "\"7\": \"yes\""),
            "/config.json: has no id2label.1");
}

TEST_F(Transformers, SaysWhichTokensDoNotFit) {
  const auto model = read_model(folder() + "/masked_lm");
  const Tensor tokens = at::zeros({1, 8}, at::kLong);
  EXPECT_EQ(error_of([&] { model->forward(tokens, at::ones_like(tokens, at::kBool)); }),
            "transformers: tokens is [1, 8], expected [batch, 1 to 7]");
  EXPECT_EQ(error_of([&] {
              model->forward(tokens.slice(1, 0, 3), at::ones({1, 3}));
            }),
            "transformers: mask is Float [1, 3], expected Bool [1, 3]");
}

}  // namespace
}  // namespace yoso
