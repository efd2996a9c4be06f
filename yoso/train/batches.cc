// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/batches.h"

#include <ATen/ops/constant_pad_nd.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "yoso/core/random.h"
#include "yoso/nn/real_tokens.h"

namespace yoso {
namespace {

constexpr size_t kReadAhead = 4;  // batches: enough not to wait for one, little beside a model

Batch pinned(const Batch& batch) {
  return {batch.tokens.pin_memory(), batch.mask.pin_memory(), batch.labels.pin_memory(),
          batch.real_below};
}

// What a GPU wants, in the reader's thread.
Batch prepared(const Batch& batch, int64_t longest) {
  Batch wide = padded(batch, longest);
  wide.real_below = bound_of_real(wide.mask);
  return pinned(wide);
}

}  // namespace

Batch padded(const Batch& batch, int64_t longest) {
  const int64_t columns = batch.tokens.size(-1), step = (longest + kWidths - 1) / kWidths;
  const int64_t more = std::min((columns + step - 1) / step * step, longest) - columns;
  if (more <= 0) return batch;
  const auto pad = [more](const at::Tensor& x, double with) {
    return at::constant_pad_nd(x, {0, more}, with);
  };
  const bool is_per_token = batch.labels.dim() > 1;
  return {pad(batch.tokens, 0), pad(batch.mask, 0),
          is_per_token ? pad(batch.labels, -100) : batch.labels, batch.real_below};
}

std::optional<int64_t> bound_of_real(const at::Tensor& mask) {
  const int64_t step = std::max<int64_t>(1, (mask.numel() + kBounds - 1) / kBounds);
  const int64_t bound = (mask.sum().item<int64_t>() / step + 1) * step;
  return nn::RealTokens::pays(bound, mask.numel()) ? std::optional(bound) : std::nullopt;
}

TrainingOrder::TrainingOrder(int64_t size, const TrainConfig& train, Length length)
    : size_(size),
      batch_size_(train.batch_size),
      seed_(train.seed),
      window_size_(train.length_window),
      length_(std::move(length)) {}

std::vector<int64_t> TrainingOrder::examples(int64_t batch) {
  if (batch / window_size_ != window_) draw_window(batch / window_size_);
  return batches_[static_cast<size_t>(batch % window_size_)];
}

int64_t TrainingOrder::example(int64_t number) {
  if (number / size_ != epoch_) {
    epoch_ = number / size_;
    order_.resize(static_cast<size_t>(size_));
    std::iota(order_.begin(), order_.end(), int64_t{0});
    shuffle(order_, Random(static_cast<uint64_t>(seed_), static_cast<uint64_t>(epoch_)));
  }
  return order_[static_cast<size_t>(number % size_)];
}

void TrainingOrder::draw_window(int64_t window) {
  window_ = window;
  std::vector<int64_t> all;
  const int64_t count = window_size_ * batch_size_;
  for (int64_t i = 0; i < count; ++i) all.push_back(example(window * count + i));
  batches_.clear();
  if (window_size_ > 1) std::ranges::stable_sort(all, {}, length_);
  for (auto begin = all.begin(); begin != all.end(); begin += batch_size_)
    batches_.emplace_back(begin, begin + batch_size_);
  // Streams from the other end than those of epochs.
  shuffle(batches_, Random(static_cast<uint64_t>(seed_), ~static_cast<uint64_t>(window)));
}

BatchReader::BatchReader(std::shared_ptr<const Task> task, Split split, int64_t first, int64_t end,
                         std::function<std::vector<int64_t>(int64_t)> examples, at::Device device)
    : task_(std::move(task)),
      split_(split),
      examples_(std::move(examples)),
      device_(device),
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
      Batch content = task_->batch(split_, examples_(batch));
      if (!device_.is_cpu()) content = prepared(content, task_->max_length());
      put([content] { return content; });
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

Batch to_device(const Batch& batch, at::Device device) {
  const auto moved = [&](const at::Tensor& x) { return x.to(device, /*non_blocking=*/true); };
  return {moved(batch.tokens), moved(batch.mask), moved(batch.labels), batch.real_below};
}

}  // namespace yoso
