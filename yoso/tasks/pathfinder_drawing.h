// What Pathfinder images are drawn with: paddles and circles, drawn twice as large as they will be
// and then reduced by a Lanczos filter on bytes. Places are (y, x) with y down; an angle a points
// along (sin a, cos a).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace yoso::pathfinder {

struct Place {
  int64_t y = 0, x = 0;
  bool operator==(const Place&) const = default;
  Place operator+(Place b) const { return {y + b.y, x + b.x}; }
  Place operator-(Place b) const { return {y - b.y, x - b.x}; }
};

// A square of bytes.
struct Grid {
  explicit Grid(int64_t side) : side(side), cells(static_cast<size_t>(side * side)) {}

  uint8_t& at(int64_t y, int64_t x) { return cells[static_cast<size_t>(y * side + x)]; }
  uint8_t at(int64_t y, int64_t x) const { return cells[static_cast<size_t>(y * side + x)]; }
  bool contains(Place p) const { return p.y >= 0 && p.x >= 0 && p.y < side && p.x < side; }

  int64_t side;
  std::vector<uint8_t> cells;  // [side, side]
};

// p + ceil(length * direction), in double: the ceiling swallows the rounding noise of sines only
// where coordinates are 4 or more, as in the original.
Place step(Place p, double angle, double length);

// The cells within `radius` of the origin.
std::vector<Place> disk(int64_t radius);

// The maximum over the cells p + offset that are inside.
Grid dilate(const Grid& grid, std::span<const Place> offsets);

// Lanczos filter of support 3, one axis after the other, x first, rounded and clamped to bytes
// after each. Reduces; `side` is at most that of the grid.
Grid resize(const Grid& grid, int64_t side);

// How a paddle is drawn. thickness * kScale is a whole number.
struct Paddle {
  static constexpr int64_t kScale = 2;  // how much larger before the reduction

  int64_t length;    // L
  double thickness;  // T
  int64_t margin;    // m

  int64_t half() const;  // its patch is of 2 * half() + 1 cells, the paddle starts at the centre
};

// One paddle in its patch: its light, 255 at full contrast, and what it occupies: itself and the
// cells within the margin.
struct PaddlePatch {
  Grid light, mask;
};
PaddlePatch draw_paddle(const Paddle& paddle, double angle);

// A disk of 255 of `radius` cells around `centre` in an image of side x side.
Grid draw_circle(int64_t side, Place centre, double radius);

}  // namespace yoso::pathfinder
