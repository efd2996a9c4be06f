// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/stored_task.h"

#include <gmock/gmock.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>

#include "yoso/core/testing.h"

namespace yoso {
namespace {

// Takes its time to read, so that threads meet, and fails at first when told to.
class SlowTask : public StoredTask {
 public:
  explicit SlowTask(int64_t failures = 0) : failures_(failures) {}

  int64_t vocab_size() const override { return 257; }
  int64_t num_classes() const override { return 2; }
  int64_t max_length() const override { return 1; }
  std::vector<int64_t> encode(std::string_view) const override { return {}; }
  std::string class_name(int64_t) const override { return ""; }
  TaskOptions resolved_options() const override { return {}; }

  mutable std::atomic<int64_t> reads = 0;

 private:
  Examples read(Split) const override {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (++reads <= failures_) fail("cannot be read");
    Examples examples;
    examples.add({}, 0);
    return examples;
  }

  int64_t failures_;
};

TEST(StoredTask, ReadsASplitOnceForAllThreads) {
  const SlowTask task;
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < 4; ++i) {
    threads.emplace_back([&] { EXPECT_EQ(task.size(Split::kTrain), 1); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(task.reads, 1);
  task.size(Split::kDev);
  EXPECT_EQ(task.reads, 2);
}

TEST(StoredTask, TriesAgainAfterAnError) {
  const SlowTask task(/*failures=*/1);
  EXPECT_EQ(error_of([&] { task.size(Split::kTrain); }), "cannot be read");
  EXPECT_EQ(task.size(Split::kTrain), 1);
}

TEST(StoredTask, RefusesExamplesThatAreNotThere) {
  const SlowTask task;
  for (const int64_t i : {-1, 1}) {
    EXPECT_EQ(error_of([&] { task.batch(Split::kDev, std::array{i}); }),
              join("batch: example is ", i, ", expected 0 to 0 of dev"));
  }
  EXPECT_EQ(task.batch(Split::kDev, {}).tokens.size(0), 0);
}

}  // namespace
}  // namespace yoso
