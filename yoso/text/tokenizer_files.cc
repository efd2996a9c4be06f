// SPDX-License-Identifier: Apache-2.0
#include "yoso/text/tokenizer_files.h"

#include <filesystem>
#include <utility>

#include "yoso/core/file.h"
#include "yoso/core/json_fields.h"

namespace yoso {
namespace {

using Json = nlohmann::json;
using Kind = TemplatePart::Kind;

std::unordered_map<std::string, int32_t> vocabulary_of(const Json& tokens, const std::string& name,
                                                       const std::string& where) {
  const JsonFields fields(tokens, name, where);
  std::unordered_map<std::string, int32_t> vocabulary;
  vocabulary.reserve(tokens.size());
  for (const auto& [token, id] : tokens.items())
    vocabulary[token] = static_cast<int32_t>(fields.number_of(token.c_str(), id));
  return vocabulary;
}

// "left right", split at its one space.
std::pair<std::string, std::string> split_merge(std::string_view merge, const std::string& where) {
  const size_t space = merge.find(' ');
  if (space == std::string_view::npos || merge.find(' ', space + 1) != std::string_view::npos)
    fail(where, " is \"", merge, "\", expected two tokens and a space between");
  return {std::string(merge.substr(0, space)), std::string(merge.substr(space + 1))};
}

BytePairsConfig byte_pairs_of(const JsonFields& model) {
  if (const std::string type = model.text("type", ""); type != "BPE")
    model.refuse("type", type, "\"BPE\"");
  for (const char* field : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (const std::string affix = model.text(field, ""); !affix.empty())
      model.refuse(field, affix, "none");
  if (const double dropout = model.real("dropout", 0); dropout != 0)
    model.refuse("dropout", dropout, "none");
  if (model.flag("byte_fallback", false)) model.refuse("byte_fallback", true, "false");

  BytePairsConfig config;
  config.vocabulary = vocabulary_of(model.required("vocab"), model.name(), "model.vocab.");
  for (const Json& merge : model.array("merges")) {
    const std::string where = join(model.name(), ": model.merges[", config.merges.size(), "]");
    if (merge.is_string()) {
      config.merges.push_back(split_merge(merge.get_ref<const std::string&>(), where));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      config.merges.emplace_back(merge[0], merge[1]);
    } else {
      fail(where, " is ", merge.type_name(), ", expected two tokens");
    }
  }
  config.unknown = model.text("unk_token", "");
  config.fuse_unknown = model.flag("fuse_unk", false);
  config.ignore_merges = model.flag("ignore_merges", false);
  return config;
}

std::vector<AddedToken> added_tokens_of(const JsonFields& file) {
  std::vector<AddedToken> tokens;
  if (file.find("added_tokens") == nullptr) return tokens;
  for (const Json& entry : file.array("added_tokens")) {
    const JsonFields fields(entry, file.name(), join("added_tokens[", tokens.size(), "]."));
    if (fields.flag("single_word", false)) fields.refuse("single_word", true, "false");
    tokens.push_back({.text = fields.text("content"),
                      .id = static_cast<int32_t>(fields.number("id")),
                      .special = fields.flag("special", false),
                      .takes_left = fields.flag("lstrip", false),
                      .takes_right = fields.flag("rstrip", false),
                      .normalized = fields.flag("normalized", true)});
  }
  return tokens;
}

TemplatePart special(std::vector<int64_t> ids, int64_t type_id = 0) {
  return {.kind = Kind::kSpecial, .ids = std::move(ids), .type_id = type_id};
}

// <s> A </s>, and for two texts <s> A </s></s> B </s>.
Templates roberta(int64_t begin, int64_t end) {
  return {.single = {special({begin}), {.kind = Kind::kFirst}, special({end})},
          .pair = {special({begin}),
                   {.kind = Kind::kFirst},
                   special({end, end}),
                   {.kind = Kind::kSecond},
                   special({end})}};
}

// [CLS] A [SEP], and for two texts [CLS] A [SEP] B [SEP], of which the second has type 1.
Templates bert(int64_t begin, int64_t end) {
  return {.single = {special({begin}), {.kind = Kind::kFirst}, special({end})},
          .pair = {special({begin}),
                   {.kind = Kind::kFirst},
                   special({end}),
                   {.kind = Kind::kSecond, .type_id = 1},
                   special({end}, 1)}};
}

// "sep": ["</s>", 2].
int64_t id_of_pair(const JsonFields& fields, const char* field) {
  const Json& pair = fields.array(field);
  if (pair.size() != 2) fields.refuse(field, pair, "a token and its id");
  return fields.number_of(field, pair[1]);
}

std::vector<TemplatePart> template_of(const JsonFields& processor, const char* field) {
  std::vector<TemplatePart> parts;
  for (const Json& piece : processor.array(field)) {
    const JsonFields fields(piece, processor.name(),
                            join("post_processor.", field, '[', parts.size(), "]."));
    if (fields.find("Sequence") != nullptr) {
      const JsonFields sequence = fields.object("Sequence");
      const std::string id = sequence.text("id");
      if (id != "A" && id != "B") sequence.refuse("id", id, "\"A\" or \"B\"");
      parts.push_back({.kind = id == "A" ? Kind::kFirst : Kind::kSecond,
                       .type_id = sequence.number("type_id", 0)});
      continue;
    }
    const JsonFields token = fields.object("SpecialToken");
    const JsonFields entry = processor.object("special_tokens").object(token.text("id").c_str());
    std::vector<int64_t> ids;
    for (const Json& id : entry.array("ids")) ids.push_back(entry.number_of("ids", id));
    parts.push_back(special(std::move(ids), token.number("type_id", 0)));
  }
  return parts;
}

Templates templates_of(const JsonFields& processor) {
  const std::string type = processor.text("type");
  if (type == "ByteLevel") return {};  // changes offsets in the text only
  if (type == "RobertaProcessing")
    return roberta(id_of_pair(processor, "cls"), id_of_pair(processor, "sep"));
  if (type == "BertProcessing")
    return bert(id_of_pair(processor, "cls"), id_of_pair(processor, "sep"));
  if (type == "TemplateProcessing")
    return {.single = template_of(processor, "single"), .pair = template_of(processor, "pair")};
  if (type == "Sequence") {
    Templates templates;
    for (const Json& step : processor.array("processors")) {
      const JsonFields fields(step, processor.name(), "post_processor.processors.");
      if (fields.text("type") == "Sequence") fields.refuse("type", "Sequence", "no sequence in it");
      Templates next = templates_of(fields);
      if (next.single.empty()) continue;
      if (!templates.single.empty())
        fail(processor.name(), ": post_processor.processors has two templates, expected one");
      templates = std::move(next);
    }
    return templates;
  }
  processor.refuse("type", type,
                   "RobertaProcessing, BertProcessing, TemplateProcessing, ByteLevel or Sequence");
}

std::optional<Truncation> truncation_of(const JsonFields& file) {
  if (file.find("truncation") == nullptr) return {};
  using Strategy = Truncation::Strategy;
  const JsonFields fields = file.object("truncation");
  Truncation truncation{.max_length = fields.number("max_length")};
  const std::string strategy = fields.text("strategy", "LongestFirst");
  if (strategy == "OnlyFirst") {
    truncation.strategy = Strategy::kOnlyFirst;
  } else if (strategy == "OnlySecond") {
    truncation.strategy = Strategy::kOnlySecond;
  } else if (strategy != "LongestFirst") {
    fields.refuse("strategy", strategy, "LongestFirst, OnlyFirst or OnlySecond");
  }
  const std::string side = fields.text("direction", "Right");
  if (side != "Left" && side != "Right") fields.refuse("direction", side, "Left or Right");
  truncation.side = side == "Left" ? Truncation::Side::kLeft : Truncation::Side::kRight;
  return truncation;
}

// Where `part` of the file must be of type ByteLevel.
void check_byte_level(const JsonFields& part) {
  if (const std::string type = part.text("type"); type != "ByteLevel")
    part.refuse("type", type, "\"ByteLevel\"");
}

std::vector<std::pair<std::string, std::string>> parse_merges(std::string_view text,
                                                              const std::string& name) {
  std::vector<std::pair<std::string, std::string>> merges;
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version")) continue;
    merges.push_back(split_merge(line, join(name, ':', number, ": line")));
  }
  return merges;
}

}  // namespace

Tokenizer parse_tokenizer(std::string_view text, const std::string& name) {
  const Json content = parse_json(text, name);
  const JsonFields file(content, name);
  TokenizerConfig config;
  config.byte_pairs = byte_pairs_of(file.object("model"));
  if (file.find("normalizer") != nullptr) {
    const JsonFields normalizer = file.object("normalizer");
    normalizer.refuse("type", normalizer.text("type"), "no normalizer");
  }
  const JsonFields cutter = file.object("pre_tokenizer");
  check_byte_level(cutter);
  config.add_prefix_space = cutter.flag("add_prefix_space", true);
  config.cut_words = cutter.flag("use_regex", true);
  if (file.find("decoder") != nullptr) check_byte_level(file.object("decoder"));
  config.added_tokens = added_tokens_of(file);
  if (file.find("post_processor") != nullptr)
    config.templates = templates_of(file.object("post_processor"));
  config.truncation = truncation_of(file);
  return Tokenizer(std::move(config), name);
}

Tokenizer parse_vocabulary(std::string_view vocabulary, const std::string& vocabulary_name,
                           std::string_view merges, const std::string& merges_name) {
  TokenizerConfig config;
  config.byte_pairs.vocabulary =
      vocabulary_of(parse_json(vocabulary, vocabulary_name), vocabulary_name, "");
  config.byte_pairs.merges = parse_merges(merges, merges_name);
  const auto& known = config.byte_pairs.vocabulary;
  for (const char* token : {"<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"}) {
    if (const auto found = known.find(token); found != known.end())
      config.added_tokens.push_back({.text = token,
                                     .id = found->second,
                                     .special = true,
                                     .takes_left = std::string_view(token) == "<mask>"});
  }
  const auto begin = known.find("<s>"), end = known.find("</s>");
  if (begin != known.end() && end != known.end())
    config.templates = roberta(begin->second, end->second);
  return Tokenizer(std::move(config), merges_name);
}

Tokenizer read_tokenizer(const std::string& path) {
  namespace fs = std::filesystem;
  if (!fs::is_directory(path)) return parse_tokenizer(read_text(path), path);
  const std::string whole = path + "/tokenizer.json";
  if (fs::exists(whole)) return parse_tokenizer(read_text(whole), whole);
  const std::string vocabulary = path + "/vocab.json", merges = path + "/merges.txt";
  if (!fs::exists(vocabulary) || !fs::exists(merges))
    fail(path, ": holds no tokenizer, expected tokenizer.json, or vocab.json and merges.txt");
  return parse_vocabulary(read_text(vocabulary), vocabulary, read_text(merges), merges);
}

}  // namespace yoso
