// Tokenizers against what Python's `tokenizers` made of the same texts: the cases in testdata, or
// those in the folder that YOSO_REFERENCES names (tests/references/tokenizers_cases.py writes
// both).
//
// SPDX-License-Identifier: Apache-2.0
#include "yoso/text/tokenizer.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>

#include "yoso/core/check.h"
#include "yoso/core/file.h"
#include "yoso/core/testing.h"
#include "yoso/core/utf8.h"
#include "yoso/text/tokenizer_files.h"

namespace yoso {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string folder() {
  const char* elsewhere = std::getenv("YOSO_REFERENCES");
  return elsewhere == nullptr ? YOSO_TESTDATA : elsewhere;
}

Tokenizer roberta() { return read_tokenizer(folder() + "/roberta.json"); }

Encoding encode(const Tokenizer& tokenizer, const json& c) {
  const auto special = c["special"] ? SpecialTokens::kWith : SpecialTokens::kWithout;
  const std::string first = c["first"];
  if (c["second"].is_null()) return tokenizer.encode(first, special);
  return tokenizer.encode(first, c["second"].get<std::string>(), special);
}

TEST(Tokenizer, GivesTheIdsOfThePackage) {
  std::map<std::string, Tokenizer> tokenizers;
  const json cases = json::parse(read_text(folder() + "/cases.json"));
  int64_t errors = 0;
  for (const json& c : cases) {
    const std::string name = c["tokenizer"];
    if (!tokenizers.contains(name))
      tokenizers.emplace(name, read_tokenizer(join(folder(), '/', name, ".json")));
    const Tokenizer& tokenizer = tokenizers.at(name);
    if (c.contains("error")) {
      ++errors;
      EXPECT_THROW(encode(tokenizer, c), Error) << c;
      continue;
    }
    const Encoding encoding = encode(tokenizer, c);
    ASSERT_EQ(encoding.ids, c["ids"].get<std::vector<int64_t>>()) << c;
    ASSERT_EQ(encoding.type_ids, c["types"].get<std::vector<int64_t>>()) << c;
    ASSERT_EQ(encoding.texts, c["texts"].get<std::vector<int8_t>>()) << c;
    const std::string text = tokenizer.decode(encoding.ids);
    if (is_utf8(text)) {
      ASSERT_EQ(text, c["text"].get<std::string>()) << c;
    }
  }
  EXPECT_GE(cases.size(), 100u);
  EXPECT_LT(errors, static_cast<int64_t>(cases.size()) / 10);
}

TEST(Tokenizer, OfVocabularyAndMergesIsThatOfTokenizerJson) {
  const Tokenizer two = parse_vocabulary(read_text(folder() + "/vocab.json"), "vocab.json",
                                         read_text(folder() + "/merges.txt"), "merges.txt");
  for (const json& c : json::parse(read_text(folder() + "/cases.json"))) {
    // <mask> takes the space before it, as RoBERTa's does; the trained one does not.
    if (c["tokenizer"] != "roberta" ||
        c["first"].get<std::string>().find("<mask>") != std::string::npos)
      continue;
    if (!c["second"].is_null() &&
        c["second"].get<std::string>().find("<mask>") != std::string::npos)
      continue;
    EXPECT_EQ(encode(two, c).ids, c["ids"].get<std::vector<int64_t>>()) << c;
  }
  const int64_t mask = two.id_of("<mask>").value();
  EXPECT_EQ(two.encode("a <mask>").ids, two.encode("a<mask>").ids);
  EXPECT_EQ(two.encode("a <mask>").ids[2], mask);
}

TEST(Tokenizer, DecodingGivesTheTextBack) {
  const Tokenizer tokenizer = roberta();
  for (const std::string text : {"", " two  words\n", "größe 我 👩‍👧", "\x01\x7f"}) {
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text).ids), text);
  }
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a").ids, SpecialTokens::kWith), "<s>a</s>");
}

TEST(Tokenizer, ALongWordTakesTimeInProportion) {
  // Quadratic work would be 10^11 steps: a test of minutes.
  const Tokenizer tokenizer = roberta();
  std::string word;
  while (word.size() < 1'000'000) word += "the";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(word).ids), word);
}

TEST(Tokenizer, TruncationKeepsTheSpecialTokens) {
  Tokenizer tokenizer = roberta();
  tokenizer.set_truncation(Truncation{.max_length = 4});
  const std::vector<int64_t> ids = tokenizer.encode("the quick brown fox").ids;
  ASSERT_EQ(ids.size(), 4u);
  EXPECT_EQ(ids.front(), tokenizer.id_of("<s>"));
  EXPECT_EQ(ids.back(), tokenizer.id_of("</s>"));
  EXPECT_EQ(tokenizer.encode("one two three", "four five six", SpecialTokens::kWithout).ids.size(),
            4u);
}

TEST(Tokenizer, SaysWhatItRefuses) {
  Tokenizer tokenizer = roberta();
  EXPECT_EQ(error_of([&] { tokenizer.encode("a\xff"); }), "text: is not UTF-8, expected UTF-8");
  EXPECT_THAT(error_of([&] { tokenizer.decode(std::vector<int64_t>{-1}); }),
              HasSubstr("decode: id is -1, expected one of the "));
  tokenizer.set_truncation(Truncation{.max_length = 1});
  EXPECT_EQ(error_of([&] { tokenizer.encode("a"); }),
            "truncation: max_length is 1, expected at least the 2 special tokens");
  tokenizer.set_truncation(
      Truncation{.max_length = 3, .strategy = Truncation::Strategy::kOnlySecond});
  EXPECT_EQ(error_of([&] { tokenizer.encode("!?!?", "1", SpecialTokens::kWithout); }),
            "truncation: the second text has 1 tokens, expected more than the 2 that are too many");
}

TEST(ReplaceInvalid, KeepsWhatIsText) {
  EXPECT_EQ(replace_invalid("é\xc3 a\xff"), "é\ufffd a\ufffd");
  EXPECT_EQ(replace_invalid(""), "");
  EXPECT_EQ(replace_invalid("👩"), "👩");
}

}  // namespace
}  // namespace yoso
