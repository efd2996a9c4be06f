// What the tests of all tasks use.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "yoso/tasks/task.h"

namespace yoso {

template <class T>
std::vector<T> values(const at::Tensor& tensor) {
  const auto* data = tensor.const_data_ptr<T>();
  return std::vector<T>(data, data + tensor.numel());
}

// Four threads take the batches of train from a new task at once; all see what one thread sees.
template <class MakeTask>
void expect_equal_batches_on_threads(MakeTask&& make) {
  constexpr int64_t kBatches = 20, kBatchSize = 8;
  const auto take = [](const Task& task, std::vector<Batch>& batches) {
    for (int64_t i = 0; i < kBatches; ++i) {
      std::vector<int64_t> examples(kBatchSize);
      std::iota(examples.begin(), examples.end(), i * kBatchSize);
      batches.push_back(task.batch(Split::kTrain, examples));
    }
  };
  std::vector<Batch> expected;
  take(*make(), expected);

  const std::shared_ptr<Task> task = make();
  std::vector<std::vector<Batch>> taken(4);
  std::vector<std::thread> threads;
  for (auto& batches : taken) threads.emplace_back([&] { take(*task, batches); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& batches : taken) {
    for (size_t i = 0; i < kBatches; ++i) {
      EXPECT_EQ(values<int64_t>(batches[i].tokens), values<int64_t>(expected[i].tokens));
      EXPECT_EQ(values<bool>(batches[i].mask), values<bool>(expected[i].mask));
      EXPECT_EQ(values<int64_t>(batches[i].labels), values<int64_t>(expected[i].labels));
    }
  }
}

}  // namespace yoso
