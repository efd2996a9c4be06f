// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/recipe.h"

#include <charconv>
#include <filesystem>
#include <limits>
#include <set>
#include <sstream>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "yoso/core/check.h"
#include "yoso/core/file.h"
#include "yoso/core/utf8.h"
#include "yoso/train/toml.h"

namespace yoso {

// Those that are no options of YOSO attention (options.h).
template <>
inline constexpr std::array kNames<nn::Features> = {"softmax", "relu"};
template <>
inline constexpr std::array kNames<NormPosition> = {"pre", "post"};
template <>
inline constexpr std::array kNames<Pooling> = {"mean", "first"};
template <>
inline constexpr std::array kNames<Schedule> = {"one_cycle", "linear", "constant"};
template <>
inline constexpr std::array kNames<Precision> = {"none", "bfloat16"};

namespace {

// Steps x accumulate x batch_size, the examples of a run, stay far below 2^63.
constexpr int64_t kMany = int64_t{1} << 32;

// Every key of a recipe with its range, once: reading, overriding and writing walk this list.
template <class Visitor, class AnyRecipe>
void visit(Visitor& v, AnyRecipe& r) {
  v.table("task");
  v.field("name", r.task.name);
  v.field("data", r.task.data);
  v.other_fields(r.task.options);

  auto& model = r.model;
  auto& encoder = model.encoder;
  v.table("model");
  v.field("kind", model.kind);
  v.field("pooling", model.pooling);
  v.field("num_classes", model.num_classes, 0, 1 << 24);
  v.field("activation_checkpointing", model.activation_checkpointing);
  v.field("vocab_size", encoder.vocab_size, 0, 1 << 24);
  v.field("max_length", encoder.max_length, 0, 1 << 30);
  v.field("hidden", encoder.hidden, 1, 1 << 20);
  v.field("layers", encoder.layers, 0, 1 << 16);
  v.field("feed_forward", encoder.feed_forward, 1, 1 << 20);
  v.field("dropout", encoder.dropout, 0.0, 0.999);
  v.field("norm", encoder.norm);
  v.field("shared_layers", encoder.shared_layers);
  v.field("position_std", encoder.position_std, 0.0, 100.0);
  v.field("ngrams", encoder.ngrams, 2, 64);
  v.field("ngram_buckets", encoder.ngram_buckets, 1, 1 << 24);

  auto& attention = encoder.attention;
  v.table("model.attention");
  v.field("kind", attention.kind);
  v.field("heads", attention.heads, 1, 1 << 16);
  v.field("conv_width", attention.conv_width, 0, 65535);

  v.table("model.attention.yoso");
  v.field("mode", attention.yoso.mode);
  v.field("gradient", attention.yoso.gradient);
  v.field("projection", attention.yoso.projection);
  v.field("num_hashes", attention.yoso.num_hashes, 1, 1 << 16);
  v.field("code_bits", attention.yoso.code_bits, 1e-3, 1e3);
  v.field("backward_hashes", attention.yoso.backward_hashes);
  v.field("normalize_output", attention.yoso.normalize_output);
  v.field("seed", attention.yoso.seed);

  constexpr int64_t kMost = 1 << 16;  // the kinds say what they need beyond these ranges
  v.table("model.attention.nystrom");
  v.field("landmarks", attention.nystrom.landmarks, 1, kMost);
  v.field("iterations", attention.nystrom.iterations, 0, 64);
  v.field("conv_width", attention.nystrom.conv_width, 0, 65535);

  v.table("model.attention.skein");
  v.field("samples", attention.skein.samples, 1, kMost);
  v.field("seed", attention.skein.seed);

  v.table("model.attention.performer");
  v.field("features", attention.performer.features);
  v.field("num_features", attention.performer.num_features, 1, kMost);

  v.table("model.attention.linformer");
  v.field("rank", attention.linformer.rank, 1, kMost);

  v.table("model.attention.longformer");
  v.field("window", attention.longformer.window, 2, 1 << 30);
  v.field("global_tokens", attention.longformer.global_tokens, 0, kMost);

  v.table("model.attention.bigbird");
  v.field("block", attention.bigbird.block, 1, kMost);
  v.field("window_blocks", attention.bigbird.window_blocks, 1, kMost);
  v.field("global_blocks", attention.bigbird.global_blocks, 0, kMost);
  v.field("random_blocks", attention.bigbird.random_blocks, 0, kMost);
  v.field("seed", attention.bigbird.seed, std::numeric_limits<int64_t>::min(),
          std::numeric_limits<int64_t>::max());

  v.table("model.attention.reformer");
  v.field("hashes", attention.reformer.hashes, 1, kMost);
  v.field("chunk", attention.reformer.chunk, 1, kMost);
  v.field("buckets", attention.reformer.buckets, 0, kMost);
  v.field("seed", attention.reformer.seed);

  v.table("model.attention.race");
  v.field("tables", attention.race.tables, 1, kMost);
  v.field("planes", attention.race.planes, 1, 12);

  auto& train = r.train;
  v.table("train");
  v.field("steps", train.steps, 1, kMany);
  v.field("batch_size", train.batch_size, 1, 1 << 18);
  v.field("accumulate", train.accumulate, 1, 1 << 10);
  v.field("length_window", train.length_window, 1, 1 << 16);
  v.field("learning_rate", train.learning_rate, 0.0, 1e3);
  v.field("weight_decay", train.weight_decay, 0.0, 1e3);
  v.field("betas", train.betas, 0.0, 0.9999999);
  v.field("epsilon", train.epsilon, 0.0, 1.0);
  v.field("schedule", train.schedule);
  v.field("warmup_steps", train.warmup_steps, 0, kMany);
  v.field("clip_norm", train.clip_norm, 0.0, 1e9);
  v.field("evaluate_every", train.evaluate_every, 1, kMany);
  v.field("checkpoint_every", train.checkpoint_every, 1, kMany);
  v.field("early_stop_patience", train.early_stop_patience, 0, kMany);
  v.field("evaluate_test", train.evaluate_test);
  v.field("seed", train.seed, std::numeric_limits<int64_t>::min(),
          std::numeric_limits<int64_t>::max());
  v.field("threads", train.threads, 0, 4096);
  v.field("mixed_precision", train.mixed_precision);
  v.field("cuda_graphs", train.cuda_graphs);
  v.field("out", train.out);
}

std::string number_text(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

const char* type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

// Takes the keys that a parsed document has; fields without a key keep their values.
class Reader {
 public:
  // `name` stands before the line in messages; an override has no lines worth naming.
  Reader(const toml::table& root, std::string name, bool has_lines)
      : root_(root), name_(std::move(name)), has_lines_(has_lines) {}

  void table(const std::string& path) {
    path_ = path;
    const size_t dot = path.rfind('.');
    const std::string parent = dot == path.npos ? "" : path.substr(0, dot);
    known_[parent].insert(path.substr(dot == path.npos ? 0 : dot + 1));
    known_[path];
    const toml::node* node = root_.at_path(path).node();
    if (node != nullptr && !node->is_table()) refuse(*node, path, "a table");
    table_ = node == nullptr ? nullptr : node->as_table();
  }

  void field(const char* key, std::string& value) {
    if (const toml::node* node = find(key)) {
      if (!node->is_string()) refuse(*node, full(key), "a string");
      value = **node->as_string();
    }
  }

  void field(const char* key, bool& value) {
    if (const toml::node* node = find(key)) {
      if (!node->is_boolean()) refuse(*node, full(key), "true or false");
      value = **node->as_boolean();
    }
  }

  void field(const char* key, int64_t& value, int64_t low, int64_t high) {
    if (const toml::node* node = find(key)) value = integer(*node, key, low, high);
  }

  void field(const char* key, std::vector<int64_t>& value, int64_t low, int64_t high) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    const toml::array* array = node->as_array();
    if (array == nullptr) refuse(*node, full(key), "an array of integers");
    value.clear();
    for (const toml::node& item : *array) value.push_back(integer(item, key, low, high));
  }

  void field(const char* key, std::optional<int64_t>& value) {
    if (const toml::node* node = find(key)) {
      if (!node->is_integer()) refuse(*node, full(key), "an integer");
      value = **node->as_integer();
    }
  }

  void field(const char* key, double& value, double low, double high) {
    if (const toml::node* node = find(key)) value = number(*node, key, low, high);
  }

  void field(const char* key, std::array<double, 2>& value, double low, double high) {
    if (const toml::node* node = find(key)) {
      const toml::array* array = node->as_array();
      if (array == nullptr || array->size() != 2) refuse(*node, full(key), "an array of 2 numbers");
      for (size_t i = 0; i < 2; ++i) value[i] = number((*array)[i], key, low, high);
    }
  }

  template <class Enum>
  requires std::is_enum_v<Enum>
  void field(const char* key, Enum& value) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    std::string names;
    for (size_t i = 0; i < kNames<Enum>.size(); ++i) {
      if (node->is_string() && **node->as_string() == kNames<Enum>[i]) {
        value = static_cast<Enum>(i);
        return;
      }
      names += join(i == 0 ? "" : ", ", '"', kNames<Enum>[i], '"');
    }
    if (!node->is_string()) refuse(*node, full(key), "one of " + names);
    fail(where(*node), full(key), " is \"", **node->as_string(), "\", expected one of ", names);
  }

  void other_fields(std::map<std::string, std::string>& options) {
    if (table_ == nullptr) return;
    for (const auto& [key, node] : *table_) {
      const std::string name(key.str());
      if (known_[path_].contains(name)) continue;
      known_[path_].insert(name);
      options[name] = text(node, name);
    }
  }

  void finish() { refuse_unknown(root_, ""); }

 private:
  const toml::node* find(const char* key) {
    known_[path_].insert(key);
    return table_ == nullptr ? nullptr : table_->get(key);
  }

  std::string full(std::string_view key) const { return join(path_, ".", key); }

  std::string where(const toml::node& node) const { return where(node.source()); }
  std::string where(const toml::source_region& source) const {
    return has_lines_ ? join(name_, ":", source.begin.line, ": ") : name_ + ": ";
  }

  [[noreturn]] void refuse(const toml::node& node, const std::string& path,
                           const std::string& expected) const {
    fail(where(node), path, " is ", type_name(node), ", expected ", expected);
  }

  // NaN is in no range.
  template <class T>
  void check_range(const toml::node& node, const char* key, T value, T low, T high) const {
    if (!(value >= low && value <= high))
      fail(where(node), full(key), " is ", value, ", expected ", low, " to ", high);
  }

  int64_t integer(const toml::node& node, const char* key, int64_t low, int64_t high) const {
    if (!node.is_integer()) refuse(node, full(key), "an integer");
    const int64_t value = **node.as_integer();
    check_range(node, key, value, low, high);
    return value;
  }

  double number(const toml::node& node, const char* key, double low, double high) const {
    if (!node.is_number()) refuse(node, full(key), "a number");
    const double value = *node.value<double>();
    check_range(node, key, value, low, high);
    return value;
  }

  std::string text(const toml::node& node, const std::string& key) const {
    if (node.is_string()) return **node.as_string();
    if (node.is_integer()) return std::to_string(**node.as_integer());
    if (node.is_floating_point()) return number_text(**node.as_floating_point());
    if (node.is_boolean()) return **node.as_boolean() ? "true" : "false";
    refuse(node, full(key), "a string, a number, true or false");
  }

  void refuse_unknown(const toml::table& table, const std::string& path) const {
    const std::set<std::string>& known = known_.at(path);
    const std::string prefix = path.empty() ? "" : path + ".";
    for (const auto& [key, node] : table) {
      const std::string name(key.str());
      if (!known.contains(name))
        fail(where(key.source()), "unknown key ", prefix, name, ", expected one of ",
             listed(known));
      if (node.is_table() && known_.contains(prefix + name))
        refuse_unknown(*node.as_table(), prefix + name);
    }
  }

  const toml::table& root_;
  std::string name_;
  bool has_lines_;
  std::string path_;
  const toml::table* table_ = nullptr;
  std::map<std::string, std::set<std::string>> known_;  // keys of each table
};

std::string toml_string(std::string_view text) {
  std::ostringstream out;
  out << '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out << '\\' << c;
    } else if (byte < 0x20 || byte == 0x7f) {
      constexpr const char* kDigits = "0123456789abcdef";
      out << "\\u00" << kDigits[byte >> 4] << kDigits[byte & 15];
    } else {
      out << c;
    }
  }
  out << '"';
  return out.str();
}

class Writer {
 public:
  void table(const char* path) {
    path_ = path;
    out_ << (out_.tellp() > 0 ? "\n[" : "[") << path << "]\n";
  }
  void field(const char* key, const std::string& value) {
    if (!is_utf8(value)) fail(path_, ".", key, " is \"", value, "\", expected UTF-8");
    put(key, toml_string(value));
  }
  void field(const char* key, bool value) { put(key, value ? "true" : "false"); }
  void field(const char* key, int64_t value, int64_t, int64_t) { put(key, std::to_string(value)); }
  void field(const char* key, const std::optional<int64_t>& value) {
    if (value) put(key, std::to_string(*value));
  }
  void field(const char* key, double value, double, double) { put(key, number_text(value)); }
  void field(const char* key, const std::vector<int64_t>& value, int64_t, int64_t) {
    std::string items;
    for (const int64_t item : value) items += join(items.empty() ? "" : ", ", item);
    put(key, join("[", items, "]"));
  }
  void field(const char* key, const std::array<double, 2>& value, double, double) {
    put(key, join("[", number_text(value[0]), ", ", number_text(value[1]), "]"));
  }
  template <class Enum>
  requires std::is_enum_v<Enum>
  void field(const char* key, Enum value) { put(key, toml_string(name_of(value))); }
  void other_fields(const std::map<std::string, std::string>& options) {
    for (const auto& [key, value] : options) put(toml_string(key), toml_string(value));
  }
  std::string text() const { return out_.str(); }

 private:
  void put(const std::string& key, const std::string& value) {
    out_ << key << " = " << value << '\n';
  }
  std::ostringstream out_;
  std::string path_;
};

void apply(const toml::table& root, const std::string& name, bool has_lines, Recipe& recipe) {
  Reader reader(root, name, has_lines);
  visit(reader, recipe);
  reader.finish();
}

}  // namespace

Recipe parse_recipe(std::string_view text, const std::string& name) {
  Recipe recipe;
  try {
    apply(toml::parse(text), name, /*has_lines=*/true, recipe);
  } catch (const toml::parse_error& error) {
    fail(name, ":", error.source().begin.line, ": ", error.description());
  } catch (const std::logic_error&) {
    fail(name, ": is not TOML, expected a key between every pair of brackets");
  }
  return recipe;
}

Recipe read_recipe(const std::string& path, std::span<const std::string> overrides) {
  Recipe recipe = parse_recipe(read_text(path), path);
  for (const std::string& assignment : overrides) set_key(recipe, assignment);
  if (recipe.train.out.empty()) {
    const std::filesystem::path file = std::filesystem::absolute(path);
    recipe.train.out =
        (std::filesystem::path("runs") / file.parent_path().filename() / file.stem()).string();
  }
  return recipe;
}

void set_key(Recipe& recipe, const std::string& assignment) {
  const std::string name = "--set " + assignment;
  const size_t equals = assignment.find('=');
  if (equals == assignment.npos) fail(name, ": has no '=', expected KEY=VALUE");
  if (!is_utf8(assignment)) fail(name, ": is no text, expected UTF-8");
  const std::string key = assignment.substr(0, equals), value = assignment.substr(equals + 1);
  toml::table table;
  try {
    table = toml::parse(key + " = " + value);
  } catch (const std::exception&) {
    try {
      table = toml::parse(key + " = " + toml_string(value));
    } catch (const std::exception&) {
      fail(name, ": key is \"", key, "\", expected one such as train.steps");
    }
  }
  apply(table, name, /*has_lines=*/false, recipe);
}

std::string to_toml(const Recipe& recipe) {
  Writer writer;
  visit(writer, recipe);
  return writer.text();
}

}  // namespace yoso
