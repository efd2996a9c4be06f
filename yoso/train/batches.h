// Batches in the order of training or of evaluation, read ahead on a thread of their own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "yoso/tasks/task.h"

namespace yoso {

// The order of training: all examples once, in an order drawn from (seed, epoch), then all again.
// Batch b holds numbers b * batch_size to (b + 1) * batch_size - 1 of that sequence, so its content
// is a function of (size, batch_size, seed, b) alone.
class TrainingOrder {
 public:
  TrainingOrder(int64_t size, int64_t batch_size, int64_t seed);
  std::vector<int64_t> examples(int64_t batch);

 private:
  int64_t size_, batch_size_, seed_, epoch_ = -1;
  std::vector<int64_t> order_;  // of epoch_
};

// Gives batches `first` to `end` - 1, each once and in order; `examples` says what they hold. An
// exception on the reading thread is thrown by the next() that would have given its batch.
class BatchReader {
 public:
  BatchReader(std::shared_ptr<const Task> task, Split split, int64_t first, int64_t end,
              std::function<std::vector<int64_t>(int64_t batch)> examples);
  ~BatchReader();

  Batch next();

 private:
  void read(int64_t first, int64_t end);
  void put(std::function<Batch()> item);

  std::shared_ptr<const Task> task_;
  Split split_;
  std::function<std::vector<int64_t>(int64_t)> examples_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<Batch()>> ready_;  // give a batch or throw
  bool stopped_ = false;
  std::thread thread_;
};

}  // namespace yoso
