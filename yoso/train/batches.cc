// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/batches.h"

#include <numeric>
#include <utility>

#include "yoso/core/random.h"

namespace yoso {
namespace {

constexpr size_t kReadAhead = 4;  // batches: more than a step uses, little beside a model

}  // namespace

TrainingOrder::TrainingOrder(int64_t size, int64_t batch_size, int64_t seed)
    : size_(size), batch_size_(batch_size), seed_(seed) {}

std::vector<int64_t> TrainingOrder::examples(int64_t batch) {
  std::vector<int64_t> examples;
  for (int64_t number = batch * batch_size_; number < (batch + 1) * batch_size_; ++number) {
    const int64_t epoch = number / size_;
    if (epoch != epoch_) {
      epoch_ = epoch;
      order_.resize(static_cast<size_t>(size_));
      std::iota(order_.begin(), order_.end(), int64_t{0});
      Random random(static_cast<uint64_t>(seed_), static_cast<uint64_t>(epoch));
      for (size_t i = order_.size(); i > 1; --i)
        std::swap(order_[i - 1], order_[random.below(static_cast<uint32_t>(i))]);
    }
    examples.push_back(order_[static_cast<size_t>(number % size_)]);
  }
  return examples;
}

BatchReader::BatchReader(std::shared_ptr<const Task> task, Split split, int64_t first, int64_t end,
                         std::function<std::vector<int64_t>(int64_t)> examples)
    : task_(std::move(task)),
      split_(split),
      examples_(std::move(examples)),
      thread_([this, first, end] { read(first, end); }) {}

BatchReader::~BatchReader() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Batch BatchReader::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !ready_.empty(); });
  const auto item = std::move(ready_.front());
  ready_.pop_front();
  changed_.notify_all();
  return item();
}

void BatchReader::read(int64_t first, int64_t end) {
  for (int64_t batch = first; batch < end; ++batch) {
    try {
      put([content = task_->batch(split_, examples_(batch))] { return content; });
    } catch (...) {
      put([error = std::current_exception()]() -> Batch { std::rethrow_exception(error); });
      return;
    }
    const std::lock_guard lock(mutex_);
    if (stopped_) return;
  }
}

void BatchReader::put(std::function<Batch()> item) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stopped_ || ready_.size() < kReadAhead; });
  ready_.push_back(std::move(item));
  changed_.notify_all();
}

}  // namespace yoso
