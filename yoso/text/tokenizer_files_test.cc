// SPDX-License-Identifier: Apache-2.0
#include "yoso/text/tokenizer_files.h"

#include <gmock/gmock.h>

#include "yoso/core/check.h"
#include "yoso/core/testing.h"

namespace yoso {
namespace {

using ::testing::ElementsAre;

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

const std::string kSmall = R"({"normalizer": null,
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
  "post_processor": {"type": "RobertaProcessing", "cls": ["<s>", 7], "sep": ["</s>", 8]},
  "decoder": {"type": "ByteLevel"}, "padding": null, "truncation": null,
  "added_tokens": [{"id": 7, "content": "<s>", "special": true},
                   {"id": 8, "content": "</s>", "special": true}],
  "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})";

// The message for kSmall with one piece of it replaced.
std::string refusal(const std::string& from, const std::string& to) {
  const std::string text = replaced(kSmall, from, to);
  return error_of([&] { parse_tokenizer(text, "t.json"); });
}

TEST(TokenizerFiles, ASmallOneReads) {
  EXPECT_THAT(parse_tokenizer(kSmall, "t.json").encode("abb").ids, ElementsAre(7, 2, 1, 8));
}

TEST(TokenizerFiles, MergesMayBeListsOfTwo) {
  const std::string text = replaced(kSmall, R"("a b")", R"(["a", "b"])");
  EXPECT_THAT(parse_tokenizer(text, "t.json").encode("ab").ids, ElementsAre(7, 2, 8));
}

TEST(TokenizerFiles, OtherKindsAreRefusedByName) {
  EXPECT_EQ(refusal(R"("type": "BPE")", R"("type": "WordPiece")"),
            R"(t.json: model.type is "WordPiece", expected "BPE")");
  EXPECT_EQ(refusal(R"("normalizer": null)", R"("normalizer": {"type": "NFC"})"),
            R"(t.json: normalizer.type is "NFC", expected no normalizer)");
  EXPECT_EQ(refusal(R"("pre_tokenizer": {"type": "ByteLevel")",
                    R"("pre_tokenizer": {"type": "Metaspace")"),
            R"(t.json: pre_tokenizer.type is "Metaspace", expected "ByteLevel")");
  EXPECT_EQ(refusal(R"("decoder": {"type": "ByteLevel"})", R"("decoder": {"type": "WordPiece"})"),
            R"(t.json: decoder.type is "WordPiece", expected "ByteLevel")");
  EXPECT_EQ(refusal("RobertaProcessing", "Odd"),
            "t.json: post_processor.type is \"Odd\", expected RobertaProcessing, BertProcessing, "
            "TemplateProcessing, ByteLevel or Sequence");
  EXPECT_EQ(refusal(R"("BPE")", R"("BPE", "dropout": 0.5)"),
            "t.json: model.dropout is 0.5, expected none");
  EXPECT_EQ(refusal(R"("BPE")", R"("BPE", "byte_fallback": true)"),
            "t.json: model.byte_fallback is true, expected false");
  EXPECT_EQ(refusal(R"("BPE")", R"("BPE", "end_of_word_suffix": "</w>")"),
            R"(t.json: model.end_of_word_suffix is "</w>", expected none)");
  EXPECT_EQ(refusal(R"("special": true)", R"("single_word": true)"),
            "t.json: added_tokens[0].single_word is true, expected false");
  EXPECT_EQ(refusal(R"("truncation": null)", R"("truncation": {"max_length": 8, "strategy": "X"})"),
            "t.json: truncation.strategy is \"X\", expected LongestFirst, OnlyFirst or OnlySecond");
}

TEST(TokenizerFiles, WhatDoesNotFitTogetherIsRefused) {
  EXPECT_EQ(refusal(R"("a b")", R"("a c")"),
            R"(t.json: merge 0: token "c" is not in the vocabulary)");
  EXPECT_EQ(refusal(R"("a b")", R"("a b c")"),
            R"(t.json: model.merges[0] is "a b c", expected two tokens and a space between)");
  EXPECT_EQ(refusal(R"("a b")", "3"), "t.json: model.merges[0] is number, expected two tokens");
  EXPECT_EQ(refusal(R"("ab": 2)", R"("ab": -2)"),
            "t.json: model.vocab.ab is -2, expected a whole number from 0 to 2147483647");
  EXPECT_EQ(refusal(R"("id": 8)", R"("id": 1)"),
            R"(t.json: added token "</s>" has id 1, expected one that no other token has)");
  EXPECT_EQ(refusal(R"("content": "<s>")", R"("content": "a")"),
            R"(t.json: added token "a" has id 7, expected 0 as in the vocabulary)");
  EXPECT_EQ(refusal(R"("content": "<s>")", R"("content": "")"),
            "t.json: an added token is empty, expected a text");
  EXPECT_EQ(refusal(R"("BPE")", R"("BPE", "unk_token": "?")"),
            R"(t.json: unk_token "?" is not in the vocabulary)");
  EXPECT_EQ(refusal(R"(["<s>", 7])", R"(["<s>"])"),
            "t.json: post_processor.cls is array, expected a token and its id");
  EXPECT_EQ(refusal(R"(["<s>", 7])", R"(["<s>", 9])"),
            "t.json: post_processor puts id 9, expected one of a token");
  EXPECT_EQ(refusal(R"("model": {)", R"("module": {)"), "t.json: has no model");
  EXPECT_EQ(error_of([] { parse_tokenizer("{", "t.json"); }), "t.json: is not JSON at byte 2");
  EXPECT_EQ(error_of([] { parse_tokenizer("[1e999]", "t.json"); }),
            "t.json: has a number beyond all bounds, expected one that fits a double");
  EXPECT_EQ(error_of([] { parse_tokenizer("[]", "t.json"); }),
            "t.json: content is array, expected an object");
}

TEST(TokenizerFiles, MergesTextNamesItsLines) {
  const auto parse = [](const std::string& merges) {
    return parse_vocabulary(R"({"a": 0, "b": 1, "ab": 2})", "vocab.json", merges, "merges.txt");
  };
  EXPECT_THAT(parse("#version: 0.2\r\na b\r\n").encode("ab").ids, ElementsAre(2));
  EXPECT_EQ(error_of([&] { parse("#version: 0.2\nab\n"); }),
            R"(merges.txt:2: line is "ab", expected two tokens and a space between)");
  EXPECT_EQ(error_of([&] { parse("a c"); }),
            R"(merges.txt: merge 0: token "c" is not in the vocabulary)");
}

TEST(TokenizerFiles, AFolderHoldsATokenizer) {
  const TestFolder files;
  const std::string folder = files.path();
  EXPECT_EQ(error_of([&] { read_tokenizer(folder); }),
            folder + ": holds no tokenizer, expected tokenizer.json, or vocab.json and merges.txt");
  files.write("vocab.json", R"({"a": 0, "b": 1, "ab": 2})");
  files.write("merges.txt", "a b\n");
  EXPECT_THAT(read_tokenizer(folder).encode("ab").ids, ElementsAre(2));
  files.write("tokenizer.json", kSmall);
  EXPECT_THAT(read_tokenizer(folder).encode("ab").ids, ElementsAre(7, 2, 8));
  EXPECT_THAT(read_tokenizer(folder + "/tokenizer.json").encode("ab").ids, ElementsAre(7, 2, 8));
}

}  // namespace
}  // namespace yoso
