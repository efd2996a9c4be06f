// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/evaluate.h"

#include <ATen/autocast_mode.h>

#include <algorithm>
#include <numeric>

#include "yoso/core/check.h"
#include "yoso/nn/generator.h"
#include "yoso/train/batches.h"

namespace yoso {
namespace {

constexpr int64_t kIgnored = -100;

void fill(const char* key, int64_t& value, int64_t needed) {
  if (value == 0) value = needed;
  if (value < needed) fail(key, " is ", value, ", expected at least the task's ", needed);
}

}  // namespace

AutocastScope::AutocastScope(Precision precision, at::DeviceType device)
    : precision_(precision), device_(device) {
  if (precision_ == Precision::kNone) return;
  at::autocast::set_autocast_enabled(device_, true);
  at::autocast::set_autocast_dtype(device_, at::kBFloat16);
}

AutocastScope::~AutocastScope() {
  if (precision_ == Precision::kNone) return;
  at::autocast::set_autocast_enabled(device_, false);
  at::autocast::clear_cache();  // of weights, which the optimizer is about to change
}

at::Tensor cross_entropy_sum(const at::Tensor& logits, const at::Tensor& labels) {
  return at::cross_entropy_loss(logits.reshape({-1, logits.size(-1)}).to(at::kFloat),
                                labels.reshape({-1}), /*weight=*/{}, at::Reduction::Sum, kIgnored);
}

std::optional<Score> evaluate(Model& model, const std::shared_ptr<const Task>& task, Split split,
                              const TrainConfig& train, const std::atomic<bool>* stop) {
  const int64_t size = task->size(split);
  if (size == 0) fail("split ", name_of(split), " is empty, expected examples to evaluate");
  const int64_t batches = (size + train.batch_size - 1) / train.batch_size;
  // Sorted by length: the same examples with the least padding.
  std::vector<int64_t> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::ranges::stable_sort(order, {}, [&](int64_t i) { return task->length(split, i); });
  const auto examples = [&](int64_t batch) {
    const auto begin = order.begin() + batch * train.batch_size;
    const auto left = order.end() - begin;
    return std::vector<int64_t>(begin, begin + std::min(train.batch_size, left));
  };
  const at::Device device = model.device();
  BatchReader reader(task, split, 0, batches, examples, device);

  const nn::GeneratorScope seeded(train.seed, device);
  const at::NoGradGuard no_grad;
  const bool was_training = model.is_training();
  model.eval();
  Score score;
  score.examples = size;
  double loss = 0;
  int64_t correct = 0;
  bool stopped = false;
  for (int64_t i = 0; i < batches && !stopped; ++i) {
    const Batch batch = to_device(reader.next(), device);
    at::Tensor logits;
    {
      const AutocastScope autocast(train.mixed_precision, device.type());
      logits = model.forward(batch.tokens, batch.mask, batch.real_below);
    }
    loss += cross_entropy_sum(logits, batch.labels).item<double>();
    correct += (logits.argmax(-1) == batch.labels).sum().item<int64_t>();
    score.labels += (batch.labels != kIgnored).sum().item<int64_t>();
    stopped = stop != nullptr && *stop;
  }
  model.train(was_training);
  if (stopped) return {};
  const auto labels = static_cast<double>(std::max<int64_t>(score.labels, 1));
  score.loss = loss / labels;
  score.accuracy = static_cast<double>(correct) / labels;
  return score;
}

ModelConfig resolve(ModelConfig model, const Task& task) {
  fill("model.vocab_size", model.encoder.vocab_size, task.vocab_size());
  fill("model.max_length", model.encoder.max_length, task.max_length());
  fill("model.num_classes", model.num_classes, task.num_classes());
  const char* expected = task.labels_per_token() ? "token_classifier"
                         : task.pairs()          ? "dual_classifier"
                                                 : "classifier";
  if (model.kind != expected)
    fail("model.kind is \"", model.kind, "\", expected \"", expected, "\" for this task");
  return model;
}

}  // namespace yoso
