// The training loop on a GPU.
// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "yoso/core/check.h"
#include "yoso/core/testing.h"
#include "yoso/nn/attention.h"
#include "yoso/tasks/listops_files.h"
#include "yoso/torch/load_cuda.h"
#include "yoso/train/checkpoint.h"
#include "yoso/train/evaluate.h"
#include "yoso/train/loop.h"

namespace yoso {
namespace {

class GpuEnvironment : public testing::Environment {
  void SetUp() override {
    if (!load_cuda().empty()) GTEST_SKIP() << "no GPU to test on: " << load_cuda();
  }
};
const auto* const kGpuEnvironment = testing::AddGlobalTestEnvironment(new GpuEnvironment);

const at::Device kGpu(at::kCUDA, 0);

class Losses : public RunObserver {
 public:
  void on_step(const StepReport& report) override { of_steps.push_back(report.loss); }
  void on_evaluation(const EvaluationReport& report, bool) override {
    of_evaluations.push_back(report.loss);
  }
  void on_no_graphs(const std::string& why) override { no_graphs = why; }
  std::vector<double> of_steps, of_evaluations;
  std::string no_graphs;
};

void expect_near(const std::vector<double>& got, const std::vector<double>& want, double relative) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i)
    EXPECT_NEAR(got[i], want[i], relative * want[i]) << "number " << i + 1;
}

class LoopOnGpuTest : public testing::Test {
 protected:
  // Everything that is random is on: dropout, hashes drawn anew in every forward, the order.
  Recipe recipe(const std::string& out) const {
    Recipe recipe = parse_recipe(R"(
[task]
name = "reversal"
length = 24
symbols = 8
dev_size = 48
test_size = 48
[model]
kind = "token_classifier"
hidden = 64
feed_forward = 64
layers = 2
dropout = 0.1
[model.attention.yoso]
mode = "sampled"
[train]
steps = 12
batch_size = 16
accumulate = 2
learning_rate = 1e-2
weight_decay = 0.01
clip_norm = 1
evaluate_every = 6
checkpoint_every = 6
evaluate_test = true
threads = 1
)",
                                 "small");
    recipe.train.out = folder_.path() / out;
    return recipe;
  }

  static Losses run(const Recipe& recipe, at::Device device = kGpu) {
    Losses losses;
    EXPECT_EQ(train(recipe, {.device = device, .resume = true, .observer = &losses}),
              Ending::kFinished);
    return losses;
  }

  const TestFolder folder_;
};

TEST_F(LoopOnGpuTest, AnInterruptedRunHasTheSameLosses) {
  const Losses whole = run(recipe("whole"));
  Recipe parts = recipe("parts");
  std::atomic<bool> stop = false;
  class StopAfter : public RunObserver {
   public:
    explicit StopAfter(std::atomic<bool>& stop) : stop_(stop) {}
    void on_step(const StepReport& report) override {
      losses.push_back(report.loss);
      if (report.step == 5) stop_ = true;
    }
    std::vector<double> losses;

   private:
    std::atomic<bool>& stop_;
  } first(stop);
  EXPECT_EQ(train(parts, {.device = kGpu, .stop = &stop, .observer = &first}),
            Ending::kInterrupted);
  const Losses second = run(parts);
  std::vector<double> all = first.losses;
  all.insert(all.end(), second.of_steps.begin(), second.of_steps.end());
  EXPECT_EQ(all, whole.of_steps);
  EXPECT_EQ(second.of_evaluations, whole.of_evaluations);
}

TEST_F(LoopOnGpuTest, CheckpointsGoOnWithTheOtherDevice) {
  for (const at::Device first : {at::Device(at::kCPU), kGpu}) {
    Recipe half = recipe(first.is_cpu() ? "from_cpu" : "from_gpu");
    half.train.steps = 6;
    half.train.evaluate_test = false;
    run(half, first);
    Recipe rest = half;
    rest.train.steps = 12;
    EXPECT_EQ(run(rest, first.is_cpu() ? kGpu : at::Device(at::kCPU)).of_steps.size(), 6u);
  }
}

// The same weights, order and hashes; without dropout, whose draws differ. Sums are float in
// another order: relative 1e-6 a step, amplified by the optimizer, which divides by small moments.
TEST_F(LoopOnGpuTest, LossesAreNearThoseOfTheCpu) {
  Recipe on_cpu = recipe("cpu"), on_gpu = recipe("gpu");
  for (Recipe* r : {&on_cpu, &on_gpu}) {
    r->model.encoder.dropout = 0;
    r->model.encoder.attention.yoso.mode = Mode::kExpected;
    r->train.learning_rate = 1e-3;
  }
  const Losses cpu = run(on_cpu, at::kCPU), gpu = run(on_gpu);
  expect_near(gpu.of_steps, cpu.of_steps, 1e-3);
  on_gpu.train.out = folder_.path() / "bfloat16";
  on_gpu.train.mixed_precision = Precision::kBFloat16;
  const Losses narrow = run(on_gpu);
  expect_near(narrow.of_steps, cpu.of_steps, 0.03);
}

// Where sums of columns go panel by panel, and where norms are not taken apart (layer_norm.h).
TEST_F(LoopOnGpuTest, WideEncodersHaveTheLossesOfTheCpu) {
  for (const auto& [hidden, feed_forward] : {std::pair<int64_t, int64_t>{384, 1100}, {1032, 16}}) {
    Recipe on_cpu = recipe(join("cpu_", hidden)), on_gpu = recipe(join("gpu_", hidden));
    for (Recipe* r : {&on_cpu, &on_gpu}) {
      r->model.encoder.hidden = hidden;
      r->model.encoder.feed_forward = feed_forward;
      r->model.encoder.attention.heads = 8;
      r->model.encoder.dropout = 0;
      r->model.encoder.attention.yoso.mode = Mode::kExpected;
      r->train.learning_rate = 1e-4;
      r->train.steps = 3;
    }
    const Losses cpu = run(on_cpu, at::kCPU), gpu = run(on_gpu);
    expect_near(gpu.of_steps, cpu.of_steps, 1e-3);
  }
}

// Most of a batch is padding: a GPU, told a bound, leaves it out.
TEST_F(LoopOnGpuTest, LossesWithPaddingAreNearThoseOfTheCpu) {
  const TestFolder data;
  listops::write_files(
      data.path(),
      {.trees = {.above_length = 4, .below_length = 80}, .train = 128, .dev = 16, .test = 16},
      [](int64_t) {});
  for (const bool pre : {true, false}) {
    Recipe on_cpu = recipe(pre ? "cpu_pre" : "cpu_post");
    Recipe on_gpu = recipe(pre ? "gpu_pre" : "gpu_post");
    for (Recipe* r : {&on_cpu, &on_gpu}) {
      r->model.kind = "classifier";
      r->task = {.name = "listops", .data = data.path(), .options = {{"max_length", "80"}}};
      r->model.encoder.norm = pre ? NormPosition::kPre : NormPosition::kPost;
      r->model.encoder.dropout = 0;
      r->model.encoder.attention.yoso.mode = Mode::kExpected;
      r->train.learning_rate = 1e-3;
      r->train.accumulate = 1;
    }
    const Losses cpu = run(on_cpu, at::kCPU), gpu = run(on_gpu);
    expect_near(gpu.of_steps, cpu.of_steps, 1e-3);
    expect_near(gpu.of_evaluations, cpu.of_evaluations, 1e-3);
  }
}

TEST_F(LoopOnGpuTest, RecomputedBlocksHaveTheSameLosses) {
  for (const Precision precision : {Precision::kNone, Precision::kBFloat16}) {
    Recipe plain = recipe(join("plain", static_cast<int>(precision)));
    Recipe again = recipe(join("again", static_cast<int>(precision)));
    again.model.activation_checkpointing = true;
    plain.train.mixed_precision = again.train.mixed_precision = precision;
    EXPECT_EQ(run(plain).of_steps, run(again).of_steps);
  }
}

// To the bit, over batches of several widths and evaluations, where steps repeat at all: some kinds
// are made of torch's operations that add atomically. Kinds that draw on the CPU say that they have
// no graphs.
TEST_F(LoopOnGpuTest, GraphsHaveTheLossesOfStepsWithoutThem) {
  const TestFolder data;
  listops::write_files(
      data.path(),
      {.trees = {.above_length = 20, .below_length = 80}, .train = 128, .dev = 16, .test = 16},
      [](int64_t) {});
  const std::set<std::string> draw_on_cpu = {"reformer", "skein"};
  const std::set<std::string> repeat = {"linear", "none", "performer", "race", "softmax", "yoso"};
  for (const std::string& kind : nn::attention_kinds()) {
    for (const Precision precision : {Precision::kNone, Precision::kBFloat16}) {
      Recipe graphs = recipe(join(kind, "_graphs_", static_cast<int>(precision)));
      graphs.model.kind = "classifier";
      graphs.task = {.name = "listops", .data = data.path(), .options = {{"max_length", "80"}}};
      graphs.model.encoder.attention.kind = kind;
      graphs.train.mixed_precision = precision;
      graphs.train.accumulate = 1;
      graphs.train.steps = 24;
      Recipe plain = graphs;
      plain.train.cuda_graphs = false;
      plain.train.out = folder_.path() / join(kind, "_plain_", static_cast<int>(precision));
      const Losses want = run(plain);
      const Losses whole = run(graphs);
      if (repeat.contains(kind)) {
        EXPECT_EQ(whole.of_steps, want.of_steps) << kind;
        EXPECT_EQ(whole.of_evaluations, want.of_evaluations) << kind;
      } else {
        EXPECT_THAT(whole.of_steps, testing::Pointwise(testing::DoubleNear(0.02), want.of_steps))
            << kind;
      }
      EXPECT_EQ(whole.no_graphs.empty(), !draw_on_cpu.contains(kind))
          << kind << ": " << whole.no_graphs;
      EXPECT_EQ(want.no_graphs, "");
    }
  }
}

TEST_F(LoopOnGpuTest, MemoryThatIsShortIsNamed) {
  // 2^14 sequences of 24 tokens, 2^20 columns of float each: 1.5 TiB in the middle of a block.
  Recipe large = recipe("large");
  large.train.batch_size = 1 << 14;
  large.train.accumulate = 1;
  large.model.encoder.feed_forward = 1 << 20;
  try {
    train(large, {.device = kGpu});
    FAIL() << "it fits";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()),
              "GPU memory: a step of this run does not fit, expected it to; lower "
              "train.batch_size and raise train.accumulate, or set "
              "model.activation_checkpointing = true");
  }
}

}  // namespace
}  // namespace yoso
