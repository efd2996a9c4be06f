// SPDX-License-Identifier: Apache-2.0
#include "yoso/train/schedule.h"

#include <gtest/gtest.h>

namespace yoso {
namespace {

TrainConfig config(Schedule schedule, int64_t steps, int64_t warmup_steps) {
  TrainConfig train;
  train.learning_rate = 1;
  train.schedule = schedule;
  train.steps = steps;
  train.warmup_steps = warmup_steps;
  return train;
}

TEST(Schedule, OneCycleRisesFromA25thAndEndsAtA250000th) {
  const TrainConfig train = config(Schedule::kOneCycle, 101, 10);
  EXPECT_DOUBLE_EQ(learning_rate(train, 0), 0.04);
  EXPECT_DOUBLE_EQ(learning_rate(train, 5), 0.52);
  EXPECT_DOUBLE_EQ(learning_rate(train, 10), 1);
  EXPECT_NEAR(learning_rate(train, 55), 0.5, 1e-5);
  EXPECT_NEAR(learning_rate(train, 100), 4e-6, 1e-15);  // 1 - (1 - 4e-6) rounds at 1e-16
}

TEST(Schedule, LinearGoesToZeroOneStepAfterTheLast) {
  const TrainConfig train = config(Schedule::kLinear, 14, 4);
  EXPECT_DOUBLE_EQ(learning_rate(train, 0), 0.2);
  EXPECT_DOUBLE_EQ(learning_rate(train, 3), 0.8);
  EXPECT_DOUBLE_EQ(learning_rate(train, 4), 1);
  EXPECT_DOUBLE_EQ(learning_rate(train, 9), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(train, 13), 0.1);
}

TEST(Schedule, ConstantStaysUp) {
  const TrainConfig train = config(Schedule::kConstant, 10, 1);
  EXPECT_DOUBLE_EQ(learning_rate(train, 0), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(train, 1), 1);
  EXPECT_DOUBLE_EQ(learning_rate(train, 9), 1);
}

TEST(Schedule, ShortRunsAreFinite) {
  for (const Schedule schedule : {Schedule::kOneCycle, Schedule::kLinear, Schedule::kConstant})
    for (const int64_t warmup : {0, 1, 5}) {
      const double rate = learning_rate(config(schedule, 1, warmup), 0);
      EXPECT_GT(rate, 0);
      EXPECT_LE(rate, 1);
    }
}

}  // namespace
}  // namespace yoso
