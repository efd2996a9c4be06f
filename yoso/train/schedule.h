// The learning rate as a function of the step, and of nothing else.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "yoso/train/recipe.h"

namespace yoso {

// Of the step that is number `step` of train.steps, counted from 0.
inline double learning_rate(const TrainConfig& train, int64_t step) {
  const double peak = train.learning_rate;
  const bool one_cycle = train.schedule == Schedule::kOneCycle;
  const auto line = [](double from, double to, int64_t at, int64_t length) {
    return from + (to - from) * static_cast<double>(at) / static_cast<double>(length);
  };
  // Step `warmup_steps` is the first at the peak. One cycle ends with the last step; the linear
  // schedule would be at 0 one step later, since a step at 0 is wasted.
  const int64_t warm = train.warmup_steps;
  if (step < warm)
    return one_cycle ? line(peak / 25, peak, step, warm) : line(0, peak, step + 1, warm + 1);
  if (train.schedule == Schedule::kConstant) return peak;
  return one_cycle
             ? line(peak, peak / 250'000, step - warm, std::max(train.steps - 1 - warm, int64_t{1}))
             : line(peak, 0, step - warm, train.steps - warm);
}

}  // namespace yoso
