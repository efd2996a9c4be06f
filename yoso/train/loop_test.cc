// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/loop.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "yoso/core/check.h"
#include "yoso/core/file.h"
#include "yoso/train/checkpoint.h"

namespace yoso {
namespace {

using testing::HasSubstr;

class LoopTest : public testing::Test {
 protected:
  LoopTest() {
    // Children of death tests start afresh, without the threads of torch.
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    at::set_num_threads(1);
  }

  // An empty folder of this process; its child in a death test has the same, and must not empty it.
  std::string folder(const std::string& name) {
    const bool is_child = testing::internal::InDeathTestChild();
    const std::string path = join(testing::TempDir(), "yoso_loop_test_",
                                  testing::UnitTest::GetInstance()->current_test_info()->name(),
                                  "_", name, "_", is_child ? getppid() : getpid());
    if (!is_child) {
      std::filesystem::remove_all(path);
      made_.push_back(path);
    }
    return path;
  }
  ~LoopTest() override {
    for (const std::string& path : made_) std::filesystem::remove_all(path);
  }

 private:
  std::vector<std::string> made_;
};

// Everything that is random is on: dropout, hashes drawn anew in every forward, the order of data.
Recipe small_recipe(const std::string& out) {
  Recipe recipe = parse_recipe(R"(
[task]
name = "reversal"
length = 8
symbols = 4
dev_size = 24
test_size = 24
[model]
kind = "token_classifier"
hidden = 16
feed_forward = 32
layers = 2
dropout = 0.1
[model.attention.yoso]
mode = "sampled"
num_hashes = 8
code_bits = 4
[train]
steps = 12
batch_size = 8
accumulate = 2
learning_rate = 1e-2
weight_decay = 0.01
clip_norm = 1
warmup_steps = 2
evaluate_every = 4
checkpoint_every = 5
evaluate_test = true
threads = 1
)",
                               "small");
  recipe.train.out = out;
  return recipe;
}

// Calls `act` after a step.
class After : public RunObserver {
 public:
  After(int64_t step, std::function<void()> act) : step_(step), act_(std::move(act)) {}
  void on_step(const StepReport& report) override {
    if (report.step == step_) act_();
  }

 private:
  int64_t step_;
  std::function<void()> act_;
};

void train_and_kill(const std::string& out, int64_t after_step) {
  After observer(after_step, [] { std::raise(SIGKILL); });
  train(small_recipe(out), {.observer = &observer});
}

// The record without its clock: what has to be the same.
std::string curve(const std::string& out) {
  std::string text;
  std::istringstream lines(read_text(out + "/run.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    auto record = nlohmann::ordered_json::parse(line);
    for (const char* clock : {"tokens_per_s", "seconds", "peak_mib", "input_s", "time"})
      record.erase(clock);
    text += record.dump() + "\n";
  }
  return text;
}

std::vector<double> losses(const std::string& out) {
  std::vector<double> losses;
  std::istringstream lines(curve(out));
  for (std::string line; std::getline(lines, line);)
    losses.push_back(nlohmann::json::parse(line).at("loss"));
  return losses;
}

void expect_same_tensors(const std::string& a, const std::string& b) {
  const SafetensorsFile file_a(a), file_b(b);
  ASSERT_EQ(file_a.content().tensors.size(), file_b.content().tensors.size());
  for (const TensorView& tensor : file_a.content().tensors) {
    const TensorView* other = file_b.content().find(tensor.name);
    ASSERT_NE(other, nullptr) << tensor.name;
    EXPECT_TRUE(std::ranges::equal(tensor.bytes, other->bytes)) << tensor.name;
  }
}

std::string error_of(const Recipe& recipe, const TrainControl& control = {}) {
  try {
    train(recipe, control);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST_F(LoopTest, AKilledRunResumesToTheSameCurveToTheBit) {
  // After step 3 nothing is saved yet; after 7, step 5 is; after 12 (evaluated at 8), step 10 is.
  // The children run this body too, up to their own line: so all of them come first.
  const std::string killed_3 = folder("3"), killed_7 = folder("7"), killed_12 = folder("12");
  EXPECT_EXIT(train_and_kill(killed_3, 3), testing::KilledBySignal(SIGKILL), "");
  EXPECT_EXIT(train_and_kill(killed_7, 7), testing::KilledBySignal(SIGKILL), "");
  EXPECT_EXIT(train_and_kill(killed_12, 12), testing::KilledBySignal(SIGKILL), "");
  EXPECT_FALSE(std::filesystem::exists(last_path(killed_3)));
  EXPECT_EQ(Checkpoint(last_path(killed_7)).state().step, 5);
  EXPECT_EQ(Checkpoint(last_path(killed_12)).state().step, 10);

  const std::string whole = folder("whole");
  ASSERT_EQ(train(small_recipe(whole)), Ending::kFinished);
  const std::string record = curve(whole);
  EXPECT_EQ(std::ranges::count(record, '\n'), 12 + 3 + 1);
  EXPECT_THAT(record, HasSubstr(R"("split":"test")"));
  for (const std::string& killed : {killed_3, killed_7, killed_12}) {
    EXPECT_EQ(train(small_recipe(killed), {.resume = true}), Ending::kFinished);
    EXPECT_EQ(curve(killed), record);
    expect_same_tensors(last_path(killed), last_path(whole));
    expect_same_tensors(best_path(killed), best_path(whole));
  }
}

TEST_F(LoopTest, AnInterruptedRunResumesToTheSameCurveToTheBit) {
  const std::string whole = folder("whole"), stopped = folder("stopped");
  ASSERT_EQ(train(small_recipe(whole)), Ending::kFinished);
  for (const int64_t step : {1, 4, 12}) {  // 4 and 12: in the middle of the evaluation
    std::filesystem::remove_all(stopped);
    std::atomic<bool> stop = false;
    After observer(step, [&] { stop = true; });
    EXPECT_EQ(train(small_recipe(stopped), {.stop = &stop, .observer = &observer}),
              Ending::kInterrupted);
    EXPECT_EQ(Checkpoint(last_path(stopped)).state().step, step);
    EXPECT_EQ(train(small_recipe(stopped), {.resume = true}), Ending::kFinished);
    EXPECT_EQ(curve(stopped), curve(whole)) << step;
  }
  EXPECT_EQ(train(small_recipe(stopped), {.resume = true}), Ending::kFinished);
  EXPECT_EQ(curve(stopped), curve(whole)) << "a finished run has nothing to do";
}

TEST_F(LoopTest, AnotherSeedGivesAnotherCurve) {
  const std::string a = folder("a"), b = folder("b");
  Recipe recipe = small_recipe(b);
  recipe.train.seed = 1;
  train(small_recipe(a));
  train(recipe);
  EXPECT_NE(curve(a), curve(b));
}

TEST_F(LoopTest, AccumulationIsOneLargeBatch) {
  const auto first_loss = [&](int64_t batch_size, int64_t accumulate) {
    Recipe recipe = small_recipe(folder("run"));
    recipe.model.encoder.dropout = 0;
    recipe.model.encoder.attention.yoso.seed = 1;
    recipe.train.batch_size = batch_size;
    recipe.train.accumulate = accumulate;
    recipe.train.steps = 2;
    train(recipe);
    return losses(recipe.train.out).at(1);  // of step 2: the update of step 1 is in it
  };
  // Sums of 128 terms in another order; AdamW divides by the gradient's size, which magnifies.
  EXPECT_NEAR(first_loss(16, 1), first_loss(4, 4), 1e-4);
}

TEST_F(LoopTest, MixedPrecisionStaysCloseToFloat) {
  std::array<double, 2> first{};
  for (const Precision precision : {Precision::kNone, Precision::kBFloat16}) {
    Recipe recipe = small_recipe(folder("run"));
    recipe.model.encoder.dropout = 0;
    recipe.train.mixed_precision = precision;
    recipe.train.steps = 1;
    train(recipe);
    first[static_cast<size_t>(precision)] = losses(recipe.train.out).at(0);
  }
  EXPECT_NE(first[0], first[1]);
  EXPECT_NEAR(first[0], first[1], 0.1);  // bfloat16 has 8 bits, codes of near-zero sums may flip
}

TEST_F(LoopTest, StopsWhenNothingGetsBetter) {
  Recipe recipe = small_recipe(folder("run"));
  recipe.train.learning_rate = 0;
  recipe.train.early_stop_patience = 2;
  recipe.train.evaluate_every = 1;
  EXPECT_EQ(train(recipe), Ending::kStoppedEarly);
  EXPECT_EQ(Checkpoint(last_path(recipe.train.out)).state().step, 3);
  EXPECT_EQ(Checkpoint(recipe.train.out).state().step, 1);
}

TEST_F(LoopTest, ARunIsNotOverwritten) {
  const Recipe recipe = small_recipe(folder("run"));
  train(recipe);
  EXPECT_THAT(error_of(recipe), HasSubstr("holds a run already; --resume goes on with it"));
  Recipe other = recipe;
  other.model.encoder.layers = 1;
  EXPECT_THAT(error_of(other, {.resume = true}), HasSubstr("another [task] or [model]"));
}

TEST_F(LoopTest, ACheckpointCutShortIsRefusedByName) {
  const Recipe recipe = small_recipe(folder("run"));
  train(recipe);
  const std::string last = last_path(recipe.train.out), whole = read_text(last);
  for (const size_t size : {size_t{0}, size_t{100}, whole.size() - 1}) {
    std::ofstream(last, std::ios::binary) << whole.substr(0, size);
    EXPECT_THAT(error_of(recipe, {.resume = true}), testing::StartsWith(last + ": ")) << size;
  }
  for (const std::string step : {"1x", "-1"}) {
    std::string hostile = whole;
    hostile.replace(hostile.find("\"step\":\"12\""), 11, "\"step\":\"" + step + "\"");
    std::ofstream(last, std::ios::binary) << hostile;
    EXPECT_THAT(error_of(recipe, {.resume = true}),
                HasSubstr("step is \"" + step + "\", expected a number from 0"));
  }
}

TEST_F(LoopTest, TheTaskAndTheRecipeHaveToAgree) {
  Recipe recipe = small_recipe(folder("run"));
  recipe.model.encoder.max_length = 4;
  EXPECT_EQ(error_of(recipe), "model.max_length is 4, expected at least the task's 8");
  recipe = small_recipe(folder("run"));
  recipe.model.kind = "classifier";
  EXPECT_THAT(error_of(recipe), HasSubstr("expected \"token_classifier\" for this task"));
}

}  // namespace
}  // namespace yoso
