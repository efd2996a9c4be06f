// What a model is worth on a split, every example counted; and the loss that training shares.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <optional>

#include "yoso/models/model.h"
#include "yoso/tasks/task.h"
#include "yoso/train/recipe.h"

namespace yoso {

// Lets torch compute in a narrower type where it is safe, as long as this lives.
class AutocastScope {
 public:
  AutocastScope(Precision precision, at::DeviceType device);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  Precision precision_;
  at::DeviceType device_;
};

// Sum of the cross entropies of all labels but -100, in float. logits [..., classes], labels [...].
at::Tensor cross_entropy_sum(const at::Tensor& logits, const at::Tensor& labels);

struct Score {
  double loss = 0, accuracy = 0;  // means over labels
  int64_t examples = 0, labels = 0;
};

// On the device of the model. `train` gives batch size, precision and seed: hashes are drawn anew
// from the seed, so the score is a function of weights and seed, and the draws of training are not
// disturbed. Nothing when `stop` became true meanwhile.
std::optional<Score> evaluate(Model& model, const std::shared_ptr<const Task>& task, Split split,
                              const TrainConfig& train, const std::atomic<bool>* stop = nullptr);

// The configuration of the model that a recipe and a task describe: the task fills in what the
// recipe leaves 0. Throws Error when the recipe is too small for the task.
ModelConfig resolve(ModelConfig model, const Task& task);

}  // namespace yoso
