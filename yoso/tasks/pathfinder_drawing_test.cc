// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/pathfinder_drawing.h"

#include <gmock/gmock.h>

#include <numbers>
#include <numeric>

namespace yoso::pathfinder {
namespace {

using testing::Each;
using testing::ElementsAre;

std::vector<int> row(const Grid& grid, int64_t y) {
  std::vector<int> cells;
  for (int64_t x = 0; x < grid.side; ++x) cells.push_back(grid.at(y, x));
  return cells;
}

std::vector<int> column(const Grid& grid, int64_t x) {
  std::vector<int> cells;
  for (int64_t y = 0; y < grid.side; ++y) cells.push_back(grid.at(y, x));
  return cells;
}

constexpr double kDegree = std::numbers::pi / 180;

int64_t sum(const Grid& grid) {
  return std::accumulate(grid.cells.begin(), grid.cells.end(), int64_t{0});
}

// The bytes below are what the original program (drewlinsley/pathfinder at ab9c130) draws.
TEST(PathfinderDrawing, DrawsThePaddlesOfTheOriginal) {
  const Paddle paddle{.length = 2, .thickness = 0.5, .margin = 1};
  ASSERT_EQ(paddle.half(), 4);
  const PaddlePatch right = draw_paddle(paddle, 0);
  EXPECT_THAT(row(right.light, 4), ElementsAre(0, 0, 2, 0, 102, 135, 116, 0, 0));
  EXPECT_THAT(row(right.mask, 4), ElementsAre(0, 3, 0, 155, 255, 255, 255, 183, 3));
  for (const int64_t y : {3, 5})
    EXPECT_THAT(row(right.mask, y), ElementsAre(0, 1, 2, 20, 173, 204, 186, 28, 0));
  for (const int64_t y : {1, 7})
    EXPECT_THAT(row(right.mask, y), ElementsAre(0, 0, 0, 1, 2, 2, 2, 1, 0));
  for (const int64_t y : {0, 1, 2, 3, 5, 6, 7, 8}) EXPECT_THAT(row(right.light, y), Each(0)) << y;
  for (const int64_t y : {0, 2, 6, 8}) EXPECT_THAT(row(right.mask, y), Each(0)) << y;

  const PaddlePatch down = draw_paddle(paddle, std::numbers::pi / 2);
  EXPECT_THAT(column(down.light, 4), ElementsAre(0, 0, 2, 0, 102, 147, 116, 0, 0));
}

TEST(PathfinderDrawing, DrawsTheCirclesOfTheOriginal) {
  const Grid circle = draw_circle(9, {4, 4}, 1.5);
  EXPECT_THAT(row(circle, 2), ElementsAre(0, 0, 0, 28, 65, 3, 1, 0, 0));
  EXPECT_THAT(row(circle, 3), ElementsAre(1, 0, 28, 228, 254, 133, 2, 4, 0));
  EXPECT_THAT(row(circle, 4), ElementsAre(3, 0, 66, 255, 255, 190, 6, 3, 0));
  EXPECT_THAT(row(circle, 5), ElementsAre(0, 0, 0, 132, 178, 55, 1, 3, 0));
}

TEST(PathfinderDrawing, DisksHoldTheCellsWithinTheirRadius) {
  EXPECT_EQ(disk(1).size(), 5);
  EXPECT_EQ(disk(2).size(), 13);  // 1 + 3 + 5 + 3 + 1
}

TEST(PathfinderDrawing, DilationIsTheMaximumOfItsCells) {
  Grid grid(5);
  grid.at(0, 0) = 7;
  grid.at(2, 3) = 9;
  const Grid wide = dilate(grid, disk(1));
  EXPECT_THAT(row(wide, 0), ElementsAre(7, 7, 0, 0, 0));
  EXPECT_THAT(row(wide, 1), ElementsAre(7, 0, 0, 9, 0));
  EXPECT_THAT(row(wide, 2), ElementsAre(0, 0, 9, 9, 9));
  // A cell looks at p + offset: what lies below it, for an offset of one down.
  const std::vector<Place> below = {{1, 0}};
  EXPECT_THAT(row(dilate(grid, below), 1), ElementsAre(0, 0, 0, 9, 0));
}

TEST(PathfinderDrawing, StepsRoundUp) {
  const double pi = std::numbers::pi;
  EXPECT_EQ(step({10, 10}, 0, 3), (Place{10, 13}));
  EXPECT_EQ(step({10, 10}, pi / 2, 3), (Place{13, 10}));
  EXPECT_EQ(step({10, 10}, pi, 3), (Place{10, 7}));
  EXPECT_EQ(step({10, 10}, pi / 6, 3), (Place{12, 13}));  // up from 11.5 and 12.6
  EXPECT_EQ(step({10, 10}, -pi / 6, 3), (Place{9, 13}));  // up from 8.5
}

// As drawn by Pillow 12, whose lines and filter the original uses: every one of the 360 degrees of
// every size was compared, two are kept here.
TEST(PathfinderDrawing, DrawsWidePaddlesAsPillowDoes) {
  const PaddlePatch two = draw_paddle({.length = 5, .thickness = 1, .margin = 1}, 37 * kDegree);
  EXPECT_THAT(row(two.light, 7), ElementsAre(0, 0, 0, 0, 0, 2, 0, 102, 92, 0, 6, 1, 0, 0, 0));
  EXPECT_THAT(row(two.light, 9), ElementsAre(0, 0, 0, 0, 0, 0, 3, 0, 83, 221, 166, 3, 0, 1, 0));
  EXPECT_THAT(row(two.mask, 7), ElementsAre(0, 0, 0, 0, 2, 1, 97, 255, 255, 88, 0, 0, 1, 0, 0));
  EXPECT_EQ(sum(two.light), 1813);
  EXPECT_EQ(sum(two.mask), 5044);

  const PaddlePatch three =
      draw_paddle({.length = 5, .thickness = 1.5, .margin = 2}, -100 * kDegree);
  EXPECT_THAT(row(three.light, 9),
              ElementsAre(0, 0, 0, 0, 0, 0, 2, 0, 51, 193, 49, 0, 2, 0, 0, 0, 0, 0, 0));
  EXPECT_THAT(row(three.light, 6),
              ElementsAre(0, 0, 0, 0, 0, 0, 3, 0, 215, 200, 0, 3, 0, 0, 0, 0, 0, 0, 0));
  EXPECT_EQ(sum(three.light), 2133);
  EXPECT_EQ(sum(three.mask), 11169);
}

}  // namespace
}  // namespace yoso::pathfinder
