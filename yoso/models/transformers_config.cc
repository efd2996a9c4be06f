// SPDX-License-Identifier: Apache-2.0
#include "yoso/models/transformers_config.h"

#include <array>

#include "yoso/core/json_fields.h"

namespace yoso {
namespace {

using Json = nlohmann::json;

constexpr std::array kArchitectures = {
    "YosoModel",
    "YosoForMaskedLM",
    "YosoForSequenceClassification",
    "YosoForTokenClassification",
    "YosoForMultipleChoice",
    "YosoForQuestionAnswering",
};

HeadKind head_of(const JsonFields& file) {
  const Json& architectures = file.array("architectures");
  if (architectures.size() == 1) {
    const std::string name = file.text_of("architectures", architectures[0]);
    for (size_t i = 0; i < kArchitectures.size(); ++i)
      if (name == kArchitectures[i]) return static_cast<HeadKind>(i);
    file.refuse("architectures", architectures[0], "one of ",
                listed(std::vector<std::string>(kArchitectures.begin(), kArchitectures.end())));
  }
  file.refuse("architectures", architectures, "a list of one");
}

// id2label is {"0": "name", ...}; without it num_labels says how many there are.
std::vector<std::string> labels_of(const JsonFields& file) {
  if (file.find("id2label") == nullptr) {
    const int64_t count = file.number("num_labels", 2);
    if (count > 10'000) file.refuse("num_labels", count, "at most 10000 without id2label");
    std::vector<std::string> labels;
    for (int64_t i = 0; i < count; ++i) labels.push_back(join("LABEL_", i));
    return labels;
  }
  const JsonFields names = file.object("id2label");
  const size_t count = file.required("id2label").size();
  std::vector<std::string> labels;
  for (size_t i = 0; i < count; ++i) labels.push_back(names.text(join(i).c_str()));
  return labels;
}

// What YosoConfig may say and nothing here does.
void check_supported(const JsonFields& file) {
  if (const std::string type = file.text("model_type"); type != "yoso")
    file.refuse("model_type", type, "\"yoso\"");
  if (const std::string act = file.text("hidden_act", "gelu"); act != "gelu")
    file.refuse("hidden_act", act, "\"gelu\"");
  if (const std::string type = file.text("position_embedding_type", "absolute"); type != "absolute")
    file.refuse("position_embedding_type", type, "\"absolute\"");
  if (file.flag("add_cross_attention", false)) file.refuse("add_cross_attention", true, "false");
}

}  // namespace

const char* architecture_of(HeadKind head) { return kArchitectures[static_cast<size_t>(head)]; }

TransformersConfig parse_transformers_config(std::string_view text, const std::string& name) {
  const Json content = parse_json(text, name);
  const JsonFields file(content, name);
  check_supported(file);
  const auto at_least_one = [&](const char* field, int64_t otherwise) {
    const int64_t value = file.number(field, otherwise);
    if (value < 1) file.refuse(field, value, "at least 1");
    return value;
  };
  TransformersConfig config;
  config.head = head_of(file);
  config.vocab_size = at_least_one("vocab_size", config.vocab_size);
  config.hidden = at_least_one("hidden_size", config.hidden);
  config.layers = at_least_one("num_hidden_layers", config.layers);
  config.feed_forward = at_least_one("intermediate_size", config.feed_forward);
  config.max_length = at_least_one("max_position_embeddings", config.max_length);
  config.text_types = at_least_one("type_vocab_size", config.text_types);
  config.dropout = file.real("hidden_dropout_prob", config.dropout);
  config.norm_epsilon = file.real("layer_norm_eps", config.norm_epsilon);
  config.tied = file.flag("tie_word_embeddings", config.tied);
  config.labels = labels_of(file);
  config.many_labels = file.text("problem_type", "") == "multi_label_classification";

  nn::AttentionConfig& attention = config.attention;
  attention.heads = at_least_one("num_attention_heads", attention.heads);
  if (config.hidden % attention.heads != 0)
    file.refuse("hidden_size", config.hidden,
                "a multiple of num_attention_heads = ", attention.heads);
  attention.conv_width = file.number("conv_window", 0);
  if (file.find("conv_window") != nullptr && attention.conv_width % 2 == 0)
    file.refuse("conv_window", attention.conv_width, "an odd number");
  attention.yoso.code_bits = static_cast<double>(at_least_one("hash_code_len", 9));
  attention.yoso.num_hashes = at_least_one("num_hash", attention.yoso.num_hashes);
  if (!file.flag("use_expectation", true)) attention.yoso.mode = Mode::kSampled;
  if (!file.flag("use_fast_hash", true)) attention.yoso.projection = Projection::kGaussian;
  config.document = text;
  return config;
}

std::string to_json(const TransformersConfig& config, const std::string& dtype) {
  Json file = config.document.empty() ? Json::object() : Json::parse(config.document);
  const nn::AttentionConfig& attention = config.attention;
  file["model_type"] = "yoso";
  file["architectures"] = {architecture_of(config.head)};
  file["vocab_size"] = config.vocab_size;
  file["hidden_size"] = config.hidden;
  file["num_hidden_layers"] = config.layers;
  file["intermediate_size"] = config.feed_forward;
  file["max_position_embeddings"] = config.max_length;
  file["type_vocab_size"] = config.text_types;
  file["hidden_act"] = "gelu";
  file["hidden_dropout_prob"] = config.dropout;
  file["layer_norm_eps"] = config.norm_epsilon;
  file["tie_word_embeddings"] = config.tied;
  file["num_attention_heads"] = attention.heads;
  file["conv_window"] = attention.conv_width == 0 ? Json() : Json(attention.conv_width);
  file["hash_code_len"] = static_cast<int64_t>(attention.yoso.code_bits);
  file["num_hash"] = attention.yoso.num_hashes;
  file["use_expectation"] = attention.yoso.mode == Mode::kExpected;
  file["use_fast_hash"] = attention.yoso.projection == Projection::kHadamard;
  file["dtype"] = dtype;
  for (const char* outdated : {"num_labels", "torch_dtype"}) file.erase(outdated);
  file["id2label"] = Json::object();
  file["label2id"] = Json::object();
  for (size_t i = 0; i < config.labels.size(); ++i) {
    file["id2label"][join(i)] = config.labels[i];
    file["label2id"][config.labels[i]] = i;
  }
  return file.dump(2) + "\n";
}

}  // namespace yoso
