// Batches in the order of training or of evaluation, read ahead on a thread of their own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "yoso/tasks/task.h"
#include "yoso/train/recipe.h"

namespace yoso {

// The order of training: all examples once, in an order drawn from (seed, epoch), then all again.
// Window w holds the numbers of that sequence from w * window * batch_size on, sorted by length and
// cut into `window` batches, which are then shuffled (train.length_window). So what a batch holds
// is a function of its number, the seed and the data alone.
class TrainingOrder {
 public:
  using Length = std::function<int64_t(int64_t example)>;
  TrainingOrder(int64_t size, const TrainConfig& train, Length length);
  std::vector<int64_t> examples(int64_t batch);

 private:
  int64_t example(int64_t number);
  void draw_window(int64_t window);

  int64_t size_, batch_size_, seed_, window_size_;
  Length length_;
  int64_t epoch_ = -1, window_ = -1;
  std::vector<int64_t> order_;                 // of epoch_
  std::vector<std::vector<int64_t>> batches_;  // of window_
};

// The batch with more padding, so that batches of a task whose examples have up to `longest` tokens
// have one of kWidths widths: what a GPU prepares by shape is prepared a few times only.
constexpr int64_t kWidths = 32;
Batch padded(const Batch& batch, int64_t longest);

// A bound above the real tokens of a mask, of at most kBounds + 1: few, as widths are. Absent where
// leaving out the padding would not pay (nn/real_tokens.h).
constexpr int64_t kBounds = 16;
std::optional<int64_t> bound_of_real(const at::Tensor& mask);

// Gives batches `first` to `end` - 1, each once and in order; `examples` says what they hold, and
// `device` where they will be needed: for a GPU they are padded(), with a bound of their real tokens
// and in pinned memory. An exception on the reading thread is thrown by the next() that would have
// given its batch.
class BatchReader {
 public:
  BatchReader(std::shared_ptr<const Task> task, Split split, int64_t first, int64_t end,
              std::function<std::vector<int64_t>(int64_t batch)> examples,
              at::Device device = at::kCPU);
  ~BatchReader();

  Batch next();

 private:
  void read(int64_t first, int64_t end);
  void put(std::function<Batch()> item);

  std::shared_ptr<const Task> task_;
  Split split_;
  std::function<std::vector<int64_t>(int64_t)> examples_;
  at::Device device_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<Batch()>> ready_;  // give a batch or throw
  bool stopped_ = false;
  std::thread thread_;
};

// The batch on a device. From pinned memory to a GPU nothing waits for the copies.
Batch to_device(const Batch& batch, at::Device device);

}  // namespace yoso
