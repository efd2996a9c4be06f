// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/transformers_answers.h"

#include <gmock/gmock.h>

#include <filesystem>

#include "yoso/core/check.h"
#include "yoso/core/testing.h"
#include "yoso/train/transformers_checkpoint.h"

namespace yoso {
namespace {

namespace fs = std::filesystem;
using ::testing::EndsWith;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

// Of the 12 tokens that the models of testdata have.
constexpr const char* kTokenizer = R"({
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
  "post_processor": {"type": "RobertaProcessing", "cls": ["<s>", 0], "sep": ["</s>", 2]},
  "added_tokens": [{"id": 0, "content": "<s>", "special": true, "normalized": false},
                   {"id": 2, "content": "</s>", "special": true, "normalized": false},
                   {"id": 3, "content": "<mask>", "special": true, "normalized": false}],
  "model": {"type": "BPE",
            "vocab": {"<s>": 0, "<pad>": 1, "</s>": 2, "<mask>": 3, "a": 4, "b": 5, "ab": 6,
                      "c": 7, "Ġ": 8, "Ġa": 9, "?": 10, "!": 11},
            "merges": ["a b", "Ġ a"]}})";

class TransformersAnswersTest : public ::testing::Test {
 protected:
  TransformersAnswers answers(const std::string& name, LongTexts long_texts = LongTexts::kRefuse,
                              const std::string& tokenizer = kTokenizer) {
    fs::remove_all(folder_.path());
    fs::copy(join(YOSO_TESTDATA, "/", name), folder_.path(), fs::copy_options::recursive);
    folder_.write("tokenizer.json", tokenizer);
    return {folder_.path(), {}, long_texts, at::kCPU};
  }

  // The logits of a sequence of ids, by the model alone.
  at::Tensor logits(const std::vector<int64_t>& ids) {
    const at::NoGradGuard no_grad;
    const auto model =
        read_transformers_model(folder_.path(), read_transformers_config(folder_.path()));
    model->eval();
    const at::Tensor tokens = at::tensor(ids, at::kLong).unsqueeze(0);
    return model->forward(tokens, at::ones_like(tokens, at::kBool))[0];
  }

  const TestFolder folder_;
};

TEST_F(TransformersAnswersTest, AMaskIsFilledByItsLikeliestToken) {
  TransformersAnswers masked_lm = answers("masked_lm");
  const std::string answer = masked_lm.answer("a<mask>b");
  const at::Tensor best = logits({0, 4, 3, 5, 2})[2].argmax();
  const std::vector<std::string> letters = {"<s>", "<pad>", "</s>", "<mask>", "a", "b",
                                            "ab",  "c",     "Ġ",    "Ġa",     "?", "!"};
  const std::vector<std::string> shown = {"",   "<pad>", "",  "",   "a", "b",
                                          "ab", "c",     " ", " a", "?", "!"};
  const auto id = static_cast<size_t>(best.item<int64_t>());
  EXPECT_THAT(answer, StartsWith("a" + shown[id] + "b\t" + letters[id] + "=0."));
  EXPECT_THAT(answer, MatchesRegex("[^\t]*\t([^ ]+=0[.][0-9]{4} ){4}[^ ]+=0[.][0-9]{4}"));
  EXPECT_THAT(masked_lm.answer("<mask><mask>"), MatchesRegex("[^\t]*\t[^\t]*\t[^\t]*"));
  EXPECT_EQ(error_of([&] { masked_lm.answer("ab"); }), "has no <mask>, expected at least one");
}

TEST_F(TransformersAnswersTest, ASequenceHasALabel) {
  TransformersAnswers sequence = answers("sequence");
  const std::string answer = sequence.answer("abc");
  const std::vector<std::string> labels = {"no", "yes", "maybe"};
  const auto best = static_cast<size_t>(logits({0, 6, 7, 2}).argmax().item<int64_t>());
  EXPECT_THAT(answer, StartsWith(labels[best] + "\tno=0."));
  EXPECT_NE(sequence.answer("a\tb"), sequence.answer("ab"));
  EXPECT_EQ(error_of([&] { sequence.answer("a\tb\tc"); }),
            "has 3 fields, expected a text, or two with a tab between");
}

TEST_F(TransformersAnswersTest, EveryTokenHasALabel) {
  EXPECT_THAT(answers("token").answer("ab a!"),
              MatchesRegex("ab=(no|yes|maybe) Ġa=(no|yes|maybe) !=(no|yes|maybe)"));
}

TEST_F(TransformersAnswersTest, AnAnswerIsAPieceOfTheText) {
  TransformersAnswers question = answers("question");
  const std::string answer = question.answer("a\tbc");
  EXPECT_THAT(answer, MatchesRegex("(b|c|bc)\t0[.][0-9]{4}"));
  const at::Tensor shares = logits({0, 4, 2, 2, 5, 7, 2}).softmax(0);
  const auto share = [&](int64_t i, int64_t j) {
    return (shares[i][0] * shares[j][1]).item<double>();
  };
  const double best = std::max({share(4, 4), share(4, 5), share(5, 5)});
  EXPECT_NEAR(std::stod(answer.substr(answer.find('\t') + 1)), best, 1e-4);
  EXPECT_EQ(error_of([&] { question.answer("a\t"); }),
            "has no tokens after the question, expected a text");
  EXPECT_EQ(error_of([&] { question.answer("a"); }),
            "has 1 fields, expected a question, a tab and a text");
}

TEST_F(TransformersAnswersTest, TheBestChoiceIsNamed) {
  TransformersAnswers choice = answers("choice");
  const std::string answer = choice.answer("a\tb\tc");
  const bool first =
      logits({0, 4, 2, 2, 5, 2}).item<double>() > logits({0, 4, 2, 2, 7, 2}).item<double>();
  EXPECT_THAT(answer, MatchesRegex("[bc]\t1=0[.][0-9]{4} 2=0[.][0-9]{4}"));
  EXPECT_THAT(answer, StartsWith(first ? "b" : "c"));
}

TEST_F(TransformersAnswersTest, ALongTextIsCutOnlyOnDemand) {
  const std::string text = "abcabcabc";
  TransformersAnswers whole = answers("sequence");
  EXPECT_EQ(error_of([&] { whole.answer(text); }),
            "has 8 tokens, expected 1 to 7; --truncate cuts it off");
  TransformersAnswers cut = answers("sequence", LongTexts::kCut);
  EXPECT_EQ(cut.answer(text), cut.answer("abcabcab"));
  EXPECT_NE(cut.answer(text), cut.answer("abcabc"));
}

TEST_F(TransformersAnswersTest, SaysWhatDoesNotFit) {
  EXPECT_THAT(error_of([&] { answers("encoder"); }),
              EndsWith(": is a YosoModel, expected a model with a head"));
  std::string larger = kTokenizer;
  larger.replace(larger.find("\"!\": 11"), 7, "\"!\": 12");
  TransformersAnswers sequence = answers("sequence", LongTexts::kRefuse, larger);
  EXPECT_EQ(error_of([&] { sequence.answer("!"); }),
            "the tokenizer gives id 12, expected below the model's vocab_size = 12");
}

}  // namespace
}  // namespace yoso
