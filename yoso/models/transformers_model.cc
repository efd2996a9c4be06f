// SPDX-License-Identifier: Apache-2.0
#include "yoso/models/transformers_model.h"

#include <array>
#include <string_view>

#include "yoso/core/check.h"

namespace yoso {
namespace {

constexpr int64_t kFirstPosition = 2;  // rows 0 and 1 of the position embeddings are never read

// Head: dense layer, its activation, layer norm, then logits = weight x + bias.
struct HeadLayout {
  enum class Reads : uint8_t { kEveryToken, kFirstToken };
  enum class Activation : uint8_t { kGelu, kRelu };
  Reads reads;
  const char* dense = nullptr;  // its name; null: none
  Activation activation = Activation::kGelu;
  const char* norm = nullptr;
  const char* logits = nullptr;
};

constexpr std::array<HeadLayout, 6> kHeads = {{
    {HeadLayout::Reads::kEveryToken},
    {HeadLayout::Reads::kEveryToken, "cls.predictions.transform.dense",
     HeadLayout::Activation::kGelu, "cls.predictions.transform.LayerNorm",
     "cls.predictions.decoder"},
    {HeadLayout::Reads::kFirstToken, "classifier.dense", HeadLayout::Activation::kGelu, nullptr,
     "classifier.out_proj"},
    {HeadLayout::Reads::kEveryToken, nullptr, HeadLayout::Activation::kGelu, nullptr, "classifier"},
    {HeadLayout::Reads::kFirstToken, "pre_classifier", HeadLayout::Activation::kRelu, nullptr,
     "classifier"},
    {HeadLayout::Reads::kEveryToken, nullptr, HeadLayout::Activation::kGelu, nullptr, "qa_outputs"},
}};

const HeadLayout& layout_of(const TransformersConfig& config) {
  return kHeads[static_cast<size_t>(config.head)];
}

int64_t num_logits(const TransformersConfig& config) {
  switch (config.head) {
    case HeadKind::kMaskedLm:
      return config.vocab_size;
    case HeadKind::kMultipleChoice:
      return 1;
    case HeadKind::kQuestionAnswering:
      return 2;
    default:
      return static_cast<int64_t>(config.labels.size());
  }
}

// Parameters of a block, and of its attention, under transformers' names within a layer.
constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kBlockNames = {{
    {"query.", "attention.self.query."},
    {"key.", "attention.self.key."},
    {"value.", "attention.self.value."},
    {"attention.conv_weight", "attention.self.conv.weight"},
    {"out.", "attention.output.dense."},
    {"attention_norm.", "attention.output.LayerNorm."},
    {"widen.", "intermediate.dense."},
    {"narrow.", "output.dense."},
    {"feed_forward_norm.", "output.LayerNorm."},
}};

std::string block_name(const std::string& ours) {
  for (const auto& [from, to] : kBlockNames)
    if (ours.starts_with(from)) return join(to, std::string_view(ours).substr(from.size()));
  fail("transformers: an encoder block has the parameter ", ours, ", which YosoLayer has not");
}

torch::nn::LayerNorm layer_norm(const TransformersConfig& config) {
  return torch::nn::LayerNorm(
      torch::nn::LayerNormOptions({config.hidden}).eps(config.norm_epsilon));
}

}  // namespace

TransformersModel::TransformersModel(const TransformersConfig& config, PaddingMode padding)
    : config_(config),
      padding_(padding),
      token_embedding_(config.vocab_size, config.hidden),
      position_embedding_(config.max_length + kFirstPosition, config.hidden),
      type_embedding_(config.text_types, config.hidden),
      norm_(layer_norm(config)),
      dropout_(config.dropout) {
  if (padding == PaddingMode::kTransformers && config.attention.conv_width > 0)
    fail("transformers: padding mode is transformers with conv_window = ",
         config.attention.conv_width, ", expected strict");
  register_module("token_embedding", token_embedding_);
  register_module("position_embedding", position_embedding_);
  register_module("type_embedding", type_embedding_);
  register_module("norm", norm_);
  register_module("dropout", dropout_);
  const nn::EncoderBlockConfig block{.hidden = config.hidden,
                                     .feed_forward = config.feed_forward,
                                     .dropout = config.dropout,
                                     .norm = nn::NormPosition::kPost,
                                     .norm_epsilon = config.norm_epsilon,
                                     .attention = config.attention};
  for (int64_t i = 0; i < config.layers; ++i)
    blocks_.push_back(register_module(join("block", i), std::make_shared<nn::EncoderBlock>(block)));

  const HeadLayout& head = layout_of(config);
  if (head.logits == nullptr) return;
  if (head.dense != nullptr)
    head_dense_ = register_module("head_dense", torch::nn::Linear(config.hidden, config.hidden));
  if (head.norm != nullptr) head_norm_ = register_module("head_norm", layer_norm(config));
  const int64_t logits = num_logits(config);
  if (config.head == HeadKind::kMaskedLm && config.tied) {
    head_weight_ = token_embedding_->weight;  // moves with it to a device
  } else {
    head_weight_ =
        register_parameter("head_weight", at::empty({logits, config.hidden}).normal_(0, 0.02));
  }
  head_bias_ = register_parameter("head_bias", at::zeros({logits}));
}

at::Tensor TransformersModel::encode(const at::Tensor& tokens, const at::Tensor& mask,
                                     const at::Tensor& type_ids) {
  const int64_t length = tokens.size(1);
  at::Tensor x = token_embedding_(tokens) +
                 position_embedding_->weight.narrow(0, kFirstPosition, length) +
                 (type_ids.defined() ? type_embedding_(type_ids) : type_embedding_->weight[0]);
  x = dropout_(norm_(x));
  const at::Tensor attended = padding_ == PaddingMode::kStrict ? mask : at::Tensor();
  for (const auto& block : blocks_) x = block->forward(x, attended);
  return x;
}

at::Tensor TransformersModel::apply_head(const at::Tensor& x) {
  const HeadLayout& head = layout_of(config_);
  if (head.logits == nullptr) return x;
  at::Tensor y = head.reads == HeadLayout::Reads::kFirstToken ? x.select(1, 0) : x;
  if (config_.head == HeadKind::kSequenceClassification ||
      config_.head == HeadKind::kTokenClassification) {
    y = dropout_(y);
  }
  if (head_dense_) {
    y = head_dense_(y);
    y = head.activation == HeadLayout::Activation::kRelu ? y.relu() : at::gelu(y);
  }
  if (head_norm_) y = head_norm_(y);
  if (config_.head == HeadKind::kSequenceClassification) y = dropout_(y);
  return at::linear(y, head_weight_, head_bias_);
}

at::Tensor TransformersModel::forward(const at::Tensor& tokens, const at::Tensor& mask,
                                      std::optional<int64_t> /*real_below*/) {
  return forward(tokens, mask, at::Tensor());
}

at::Tensor TransformersModel::forward(const at::Tensor& tokens, const at::Tensor& mask,
                                      const at::Tensor& type_ids) {
  const bool choices = config_.head == HeadKind::kMultipleChoice && tokens.dim() == 3;
  if ((tokens.dim() != 2 && !choices) || tokens.size(-1) < 1 ||
      tokens.size(-1) > config_.max_length)
    fail("transformers: tokens is ", tokens.sizes(), ", expected [batch, 1 to ", config_.max_length,
         "]");
  if (mask.sizes() != tokens.sizes() || mask.scalar_type() != at::kBool)
    fail("transformers: mask is ", mask.scalar_type(), " ", mask.sizes(), ", expected Bool ",
         tokens.sizes());
  if (type_ids.defined() && type_ids.sizes() != tokens.sizes())
    fail("transformers: type_ids is ", type_ids.sizes(), ", expected ", tokens.sizes());
  if (!choices) return apply_head(encode(tokens, mask, type_ids));
  const at::Tensor scores =
      apply_head(encode(tokens.flatten(0, 1), mask.flatten(0, 1),
                        type_ids.defined() ? type_ids.flatten(0, 1) : type_ids));
  return scores.view({tokens.size(0), tokens.size(1)});
}

std::vector<std::pair<std::string, at::Tensor>> TransformersModel::weights() const {
  std::vector<std::pair<std::string, at::Tensor>> weights;
  const std::string encoder = config_.head == HeadKind::kNone ? "" : "yoso.";
  const auto add = [&](const std::string& name, const torch::nn::Module& module) {
    for (const auto& item : module.named_parameters())
      weights.emplace_back(join(name, '.', item.key()), item.value());
  };
  add(encoder + "embeddings.word_embeddings", *token_embedding_);
  add(encoder + "embeddings.position_embeddings", *position_embedding_);
  add(encoder + "embeddings.token_type_embeddings", *type_embedding_);
  add(encoder + "embeddings.LayerNorm", *norm_);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    for (const auto& item : blocks_[i]->named_parameters()) {
      const std::string name = join(encoder, "encoder.layer.", i, '.', block_name(item.key()));
      // A convolution over tokens and channels, one channel wide.
      const bool conv = item.key() == "attention.conv_weight";
      weights.emplace_back(name, conv ? item.value().unsqueeze(1).unsqueeze(-1) : item.value());
    }
  }
  const HeadLayout& head = layout_of(config_);
  if (head_dense_) add(head.dense, *head_dense_);
  if (head_norm_) add(head.norm, *head_norm_);
  if (head.logits == nullptr) return weights;
  // The masked LM of transformers has its bias twice and reads the one of the decoder, which is not
  // stored where the two are tied.
  if (config_.head == HeadKind::kMaskedLm) weights.emplace_back("cls.predictions.bias", head_bias_);
  if (config_.head != HeadKind::kMaskedLm || !config_.tied) {
    weights.emplace_back(join(head.logits, ".weight"), head_weight_);
    weights.emplace_back(join(head.logits, ".bias"), head_bias_);
  }
  return weights;
}

}  // namespace yoso
