// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/recipe.h"

#include <gmock/gmock.h>

#include <sstream>

#include "yoso/core/file.h"
#include "yoso/core/testing.h"

namespace yoso {
namespace {

std::string parse_error(std::string_view text) {
  return error_of([&] { parse_recipe(text, "r.toml"); });
}

TEST(Recipe, EmptyTextIsTheDefaults) {
  EXPECT_EQ(to_toml(parse_recipe("", "r.toml")), to_toml(Recipe{}));
}

TEST(Recipe, ReadsEveryKindOfValue) {
  const Recipe recipe = parse_recipe(R"(
[task]
name = "text"
data = "some/where"
max_length = 4096
lower = true
fraction = 0.25
[model]
pooling = "first"
hidden = 128
shared_layers = true
dropout = 0
ngrams = [3, 5]
[model.attention]
kind = "softmax"
[model.attention.yoso]
mode = "sampled"
projection = "gaussian"
code_bits = 8.5
seed = -3
[train]
learning_rate = 1e-4
betas = [0.8, 0.95]
schedule = "linear"
mixed_precision = "bfloat16"
)",
                                     "r.toml");
  EXPECT_EQ(recipe.task.name, "text");
  EXPECT_EQ(recipe.task.data, "some/where");
  EXPECT_THAT(recipe.task.options, testing::ElementsAre(testing::Pair("fraction", "0.25"),
                                                        testing::Pair("lower", "true"),
                                                        testing::Pair("max_length", "4096")));
  EXPECT_EQ(recipe.model.pooling, Pooling::kFirst);
  EXPECT_EQ(recipe.model.encoder.hidden, 128);
  EXPECT_TRUE(recipe.model.encoder.shared_layers);
  EXPECT_EQ(recipe.model.encoder.dropout, 0.0);
  EXPECT_THAT(recipe.model.encoder.ngrams, testing::ElementsAre(3, 5));
  EXPECT_EQ(recipe.model.encoder.attention.kind, "softmax");
  const YosoOptions& yoso = recipe.model.encoder.attention.yoso;
  EXPECT_EQ(yoso.mode, Mode::kSampled);
  EXPECT_EQ(yoso.projection, Projection::kGaussian);
  EXPECT_EQ(yoso.code_bits, 8.5);
  EXPECT_EQ(yoso.seed, -3);
  EXPECT_EQ(recipe.train.learning_rate, 1e-4);
  EXPECT_EQ(recipe.train.betas, (std::array{0.8, 0.95}));
  EXPECT_EQ(recipe.train.schedule, Schedule::kLinear);
  EXPECT_EQ(recipe.train.mixed_precision, Precision::kBFloat16);
}

TEST(Recipe, EachKindOfAttentionHasATable) {
  const nn::AttentionConfig attention = parse_recipe(R"(
[model.attention]
kind = "nystrom"
[model.attention.nystrom]
landmarks = 16
conv_width = 35
[model.attention.skein]
samples = 16
seed = 4
[model.attention.performer]
features = "relu"
[model.attention.linformer]
rank = 8
[model.attention.longformer]
window = 32
[model.attention.bigbird]
random_blocks = 0
[model.attention.reformer]
hashes = 4
[model.attention.race]
planes = 2
)",
                                                     "r.toml")
                                            .model.encoder.attention;
  EXPECT_EQ(attention.kind, "nystrom");
  EXPECT_EQ(attention.nystrom.landmarks, 16);
  EXPECT_EQ(attention.nystrom.conv_width, 35);
  EXPECT_EQ(attention.skein.samples, 16);
  EXPECT_EQ(attention.skein.seed, 4);
  EXPECT_EQ(attention.performer.features, nn::Features::kRelu);
  EXPECT_EQ(attention.linformer.rank, 8);
  EXPECT_EQ(attention.longformer.window, 32);
  EXPECT_EQ(attention.bigbird.random_blocks, 0);
  EXPECT_EQ(attention.reformer.hashes, 4);
  EXPECT_EQ(attention.race.planes, 2);
  EXPECT_EQ(parse_error("[model.attention.linformer]\nrank = 0\n"),
            "r.toml:2: model.attention.linformer.rank is 0, expected 1 to 65536");
}

TEST(Recipe, WrittenTextReadsBackTheSame) {
  Recipe recipe;
  recipe.task.data = "a \"quoted\"\\path\n\x7f";
  recipe.task.options = {{"max_length", "007"}, {"odd key", "x"}};
  recipe.model.encoder.ngrams = {4, 2};
  recipe.model.encoder.attention.yoso.seed = 5;
  recipe.train.learning_rate = 0.1 + 0.2;
  const std::string text = to_toml(recipe);
  const Recipe again = parse_recipe(text, "r.toml");
  EXPECT_EQ(again.task.data, recipe.task.data);
  EXPECT_EQ(again.task.options, recipe.task.options);
  EXPECT_EQ(again.model.encoder.ngrams, recipe.model.encoder.ngrams);
  EXPECT_EQ(again.train.learning_rate, recipe.train.learning_rate);
  EXPECT_EQ(to_toml(again), text);
}

// As a row begins there, in the section of its table: | `key` | default |, strings as code.
TEST(Recipe, ThePageHasEveryKeyAndItsDefault) {
  const std::string page = read_text(YOSO_DOCS "/recipes.md");
  std::istringstream lines(to_toml(Recipe{}));
  std::string section;
  int keys = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("[")) {
      // The kinds of attention but yoso share a section, a run of rows each.
      const std::string kind = line.substr(line.rfind('.') + 1, line.size() - line.rfind('.') - 2);
      size_t begin = page.find("## " + line + "\n"), end = page.find("\n## ", begin);
      if (begin == page.npos) {
        begin = page.find("| `" + kind + "` | ");
        end = page.find("\n| `", begin);
      }
      ASSERT_NE(begin, page.npos) << line;
      section = page.substr(begin, end - begin);
      continue;
    }
    const size_t equals = line.find(" = ");
    if (equals == line.npos) continue;
    const std::string key = line.substr(0, equals), value = line.substr(equals + 3);
    const std::string cell = value.starts_with('"') ? "`" + value + "`" : value;
    EXPECT_THAT(section, testing::HasSubstr("| `" + key + "` | " + cell + " |"));
    ++keys;
  }
  EXPECT_GT(keys, 60);
}

TEST(Recipe, ErrorsNameFileLineAndKey) {
  EXPECT_THAT(parse_error("[train]\nsteps = 10\nstep = 10\n"),
              testing::StartsWith("r.toml:3: unknown key train.step, expected one of accumulate,"));
  EXPECT_EQ(parse_error("[trian]\n"),
            "r.toml:1: unknown key trian, expected one of model, task, train");
  EXPECT_THAT(parse_error("[model.attention.yoso]\nhashes = 3\n"),
              testing::StartsWith("r.toml:2: unknown key model.attention.yoso.hashes, expected"));
  EXPECT_EQ(parse_error("[train]\nsteps = \"ten\"\n"),
            "r.toml:2: train.steps is a string, expected an integer");
  EXPECT_EQ(parse_error("[train]\nsteps = 0\n"),
            "r.toml:2: train.steps is 0, expected 1 to 4294967296");
  EXPECT_EQ(parse_error("[train]\naccumulate = 1025\n"),
            "r.toml:2: train.accumulate is 1025, expected 1 to 1024");
  EXPECT_EQ(parse_error("[train]\nbatch_size = 262145\n"),
            "r.toml:2: train.batch_size is 262145, expected 1 to 262144");
  EXPECT_EQ(parse_error("[train]\nlearning_rate = nan\n"),
            "r.toml:2: train.learning_rate is nan, expected 0 to 1000");
  EXPECT_EQ(parse_error("[train]\nbetas = [1]\n"),
            "r.toml:2: train.betas is an array, expected an array of 2 numbers");
  EXPECT_EQ(parse_error("[model]\npooling = \"max\"\n"),
            "r.toml:2: model.pooling is \"max\", expected one of \"mean\", \"first\"");
  EXPECT_EQ(parse_error("[model]\nshared_layers = 1\n"),
            "r.toml:2: model.shared_layers is an integer, expected true or false");
  EXPECT_EQ(parse_error("[model]\nngrams = 3\n"),
            "r.toml:2: model.ngrams is an integer, expected an array of integers");
  EXPECT_EQ(parse_error("[model]\nngrams = [3,\n0.5]\n"),
            "r.toml:3: model.ngrams is a number with a fraction, expected an integer");
  EXPECT_EQ(parse_error("[model]\nngrams = [3, 1]\n"),
            "r.toml:2: model.ngrams is 1, expected 2 to 64");
  EXPECT_EQ(parse_error("[model]\nngram_buckets = 0\n"),
            "r.toml:2: model.ngram_buckets is 0, expected 1 to 16777216");
  EXPECT_EQ(parse_error("model = 3\n"), "r.toml:1: model is an integer, expected a table");
  EXPECT_EQ(parse_error("[task]\nfiles = [1]\n"),
            "r.toml:2: task.files is an array, expected a string, a number, true or false");
  EXPECT_THAT(parse_error("[train]\n\nsteps = = 3\n"), testing::StartsWith("r.toml:3: "));
  EXPECT_THAT(parse_error("[train]\nsteps = 1\nsteps = 2\n"), testing::StartsWith("r.toml:3: "));
}

TEST(Recipe, OverridesSetOneKey) {
  Recipe recipe;
  set_key(recipe, "train.steps=7");
  set_key(recipe, "model.attention.kind=softmax");
  set_key(recipe, "model.ngrams=[2, 3]");
  set_key(recipe, "model.ngrams=[6]");
  set_key(recipe, "task.max_length=512");
  set_key(recipe, "task.data=data/a=b");
  EXPECT_EQ(recipe.train.steps, 7);
  EXPECT_THAT(recipe.model.encoder.ngrams, testing::ElementsAre(6));
  EXPECT_EQ(recipe.model.encoder.attention.kind, "softmax");
  EXPECT_EQ(recipe.task.options.at("max_length"), "512");
  EXPECT_EQ(recipe.task.data, "data/a=b");
}

TEST(Recipe, OverrideErrorsNameTheArgument) {
  Recipe recipe;
  const auto error = [&](const std::string& text) {
    return error_of([&] { set_key(recipe, text); });
  };
  EXPECT_EQ(error("train.steps=ten"),
            "--set train.steps=ten: train.steps is a string, expected an integer");
  EXPECT_EQ(error("train.steps"), "--set train.steps: has no '=', expected KEY=VALUE");
  EXPECT_THAT(error("train.stops=1"),
              testing::StartsWith("--set train.stops=1: unknown key train.stops, expected"));
  EXPECT_THAT(error("=1"), testing::StartsWith("--set =1: key is \"\""));
}

TEST(Recipe, BytesThatAreNoTextAreRefusedByName) {
  Recipe recipe;
  EXPECT_EQ(error_of([&] { set_key(recipe, "train.out=a\xff"); }),
            "--set train.out=a\xff: is no text, expected UTF-8");
  recipe.train.out = "a\xff";
  EXPECT_EQ(error_of([&] { to_toml(recipe); }), "train.out is \"a\xff\", expected UTF-8");
}

TEST(Recipe, MissingFileIsNamed) {
  EXPECT_EQ(error_of([] { read_recipe("no/such.toml"); }),
            "no/such.toml: cannot open: No such file or directory");
}

// Both were a crash or undefined behaviour in toml++ (yoso/train/toml.h).
TEST(Recipe, RefusesAHeaderWithoutKeyAndTakesLettersOfAnyAlphabet) {
  EXPECT_EQ(parse_error("[=]\n"),
            "r.toml: is not TOML, expected a key between every pair of brackets");
  EXPECT_THAT(parse_error("[\u03a6e"), testing::StartsWith("r.toml:"));
}

}  // namespace
}  // namespace yoso
