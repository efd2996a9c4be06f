// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/pathfinder_drawing.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <numbers>

namespace yoso::pathfinder {
namespace {

double lanczos(double x) {
  constexpr double kSupport = 3;
  if (std::abs(x) >= kSupport) return 0;
  const auto sinc = [](double t) {
    return t == 0 ? 1.0 : std::sin(std::numbers::pi * t) / (std::numbers::pi * t);
  };
  return sinc(x) * sinc(x / kSupport);
}

// How one cell of the result weighs the cells from `first` on. Fixed point, so that rounding is the
// same everywhere.
constexpr int kBits = 22;
struct Weights {
  int64_t first;
  std::vector<int32_t> weights;  // sum is 2^kBits, but for rounding
};

std::vector<Weights> reduction(int64_t from, int64_t to) {
  const double scale = static_cast<double>(from) / static_cast<double>(to), support = 3 * scale;
  std::vector<Weights> all(static_cast<size_t>(to));
  for (int64_t i = 0; i < to; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const auto first = std::max<int64_t>(static_cast<int64_t>(centre - support + 0.5), 0);
    const auto end = std::min(static_cast<int64_t>(centre + support + 0.5), from);
    std::vector<double> exact;
    double sum = 0;
    for (int64_t j = first; j < end; ++j) {
      exact.push_back(lanczos((static_cast<double>(j) + 0.5 - centre) / scale));
      sum += exact.back();
    }
    Weights& w = all[static_cast<size_t>(i)];
    w.first = first;
    for (const double x : exact)
      w.weights.push_back(static_cast<int32_t>(std::lround(x / sum * (1 << kBits))));
  }
  return all;
}

// Halves towards and away from zero.
int64_t round_down(double x) {
  return static_cast<int64_t>(x >= 0 ? std::ceil(x - 0.5) : -std::ceil(-x - 0.5));
}
int64_t round_up(double x) {
  return static_cast<int64_t>(x >= 0 ? std::floor(x + 0.5) : -std::floor(-x + 0.5));
}

// One cell wide: Bresenham's line.
void draw_thin_line(Grid& grid, Place a, Place b) {
  const int64_t dy = std::abs(b.y - a.y), dx = std::abs(b.x - a.x);
  const int64_t longer = std::max(dx, dy), shorter = std::min(dx, dy);
  const Place down{b.y > a.y ? 1 : -1, 0}, right{0, b.x > a.x ? 1 : -1};
  const Place along = dy > dx ? down : right, across = dy > dx ? right : down;
  int64_t error = 2 * shorter - longer;
  for (int64_t i = 0; i <= longer; ++i) {
    grid.at(a.y, a.x) = 255;
    if (error >= 0) {
      a = a + across;
      error -= 2 * longer;
    }
    a = a + along;
    error += 2 * shorter;
  }
}

// A rectangle whose corners are whole cells: (width - 1)/2 to either side of the line, a half more
// on one side and less on the other. A row is filled between its edges, from the cell nearest to
// the one to that nearest to the other, halves inwards. All paddles of the original, cell by cell.
void draw_wide_line(Grid& grid, Place a, Place b, int64_t width) {
  const auto dy = static_cast<double>(b.y - a.y), dx = static_cast<double>(b.x - a.x);
  const double side = 0.5 * static_cast<double>(width - 1), length = std::hypot(dy, dx);
  const double less = static_cast<double>(round_down(side)) / length;
  const double more = static_cast<double>(round_up(side)) / length;
  const Place left{round_down(more * dx), -round_down(less * dy)};
  const Place right{-round_down(less * dx), round_down(more * dy)};
  const std::array<Place, 4> corners = {a + left, b + left, b + right, a + right};
  for (int64_t y = 0; y < grid.side; ++y) {
    double low = static_cast<double>(grid.side), high = -1;
    const auto reach = [&](double x) {
      low = std::min(low, x);
      high = std::max(high, x);
    };
    for (size_t i = 0; i < corners.size(); ++i) {
      const Place p = corners[i], q = corners[(i + 1) % corners.size()];
      if (y < std::min(p.y, q.y) || y > std::max(p.y, q.y)) continue;
      if (p.y == q.y) {
        reach(static_cast<double>(p.x));
        reach(static_cast<double>(q.x));
      } else {
        reach(static_cast<double>(p.x) +
              static_cast<double>((y - p.y) * (q.x - p.x)) / static_cast<double>(q.y - p.y));
      }
    }
    for (int64_t x = round_up(low); x <= round_down(high); ++x) grid.at(y, x) = 255;
  }
}

void draw_line(Grid& grid, Place a, Place b, int64_t width) {
  if (width == 1) {
    draw_thin_line(grid, a, b);
  } else {
    draw_wide_line(grid, a, b, width);
  }
}

}  // namespace

Place step(Place p, double angle, double length) {
  return {static_cast<int64_t>(std::ceil(static_cast<double>(p.y) + length * std::sin(angle))),
          static_cast<int64_t>(std::ceil(static_cast<double>(p.x) + length * std::cos(angle)))};
}

std::vector<Place> disk(int64_t radius) {
  std::vector<Place> cells;
  for (int64_t y = -radius; y <= radius; ++y) {
    for (int64_t x = -radius; x <= radius; ++x) {
      if (y * y + x * x <= radius * radius) cells.push_back({y, x});
    }
  }
  return cells;
}

Grid dilate(const Grid& grid, std::span<const Place> offsets) {
  Grid result(grid.side);
  for (const Place o : offsets) {
    const int64_t first = std::max<int64_t>(0, -o.x), end = std::min(grid.side, grid.side - o.x);
    for (int64_t y = std::max<int64_t>(0, -o.y); y < std::min(grid.side, grid.side - o.y); ++y) {
      const uint8_t* from = &grid.cells[static_cast<size_t>((y + o.y) * grid.side)] + o.x;
      uint8_t* to = &result.cells[static_cast<size_t>(y * grid.side)];
      for (int64_t x = first; x < end; ++x) to[x] = std::max(to[x], from[x]);
    }
  }
  return result;
}

Grid resize(const Grid& grid, int64_t side) {
  const std::vector<Weights> weights = reduction(grid.side, side);
  const auto rounded = [](int64_t sum) {
    return static_cast<uint8_t>(std::clamp<int64_t>((sum + (1 << (kBits - 1))) >> kBits, 0, 255));
  };
  std::vector<uint8_t> narrow(static_cast<size_t>(grid.side * side));  // [grid.side, side]
  for (int64_t y = 0; y < grid.side; ++y) {
    for (int64_t x = 0; x < side; ++x) {
      const Weights& w = weights[static_cast<size_t>(x)];
      int64_t sum = 0;
      for (size_t j = 0; j < w.weights.size(); ++j)
        sum += int64_t{w.weights[j]} * grid.at(y, w.first + static_cast<int64_t>(j));
      narrow[static_cast<size_t>(y * side + x)] = rounded(sum);
    }
  }
  Grid result(side);
  for (int64_t y = 0; y < side; ++y) {
    const Weights& w = weights[static_cast<size_t>(y)];
    for (int64_t x = 0; x < side; ++x) {
      int64_t sum = 0;
      for (size_t j = 0; j < w.weights.size(); ++j) {
        const int64_t row = w.first + static_cast<int64_t>(j);
        sum += int64_t{w.weights[j]} * narrow[static_cast<size_t>(row * side + x)];
      }
      result.at(y, x) = rounded(sum);
    }
  }
  return result;
}

int64_t Paddle::half() const {
  return length + static_cast<int64_t>(std::ceil(thickness)) + margin;
}

PaddlePatch draw_paddle(const Paddle& paddle, double angle) {
  const int64_t half = paddle.half(), centre = half * Paddle::kScale;
  Grid canvas(2 * centre + 1);
  const Place start{centre, centre};
  const Place end = step(start, angle, static_cast<double>(paddle.length * Paddle::kScale));
  draw_line(canvas, start, end, std::lround(paddle.thickness * Paddle::kScale));
  const int64_t side = 2 * half + 1;
  return {resize(canvas, side), resize(dilate(canvas, disk(paddle.margin * Paddle::kScale)), side)};
}

Grid draw_circle(int64_t side, Place centre, double radius) {
  constexpr int64_t kScale = Paddle::kScale;
  Grid canvas(side * kScale);
  const double reach = radius * kScale;
  for (int64_t y = 0; y < canvas.side; ++y) {
    for (int64_t x = 0; x < canvas.side; ++x) {
      const auto dy = static_cast<double>(y - centre.y * kScale);
      const auto dx = static_cast<double>(x - centre.x * kScale);
      if (dy * dy + dx * dx <= reach * reach) canvas.at(y, x) = 255;
    }
  }
  return resize(canvas, side);
}

}  // namespace yoso::pathfinder
