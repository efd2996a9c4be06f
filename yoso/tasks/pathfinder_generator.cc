// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/pathfinder_generator.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <span>

#include "yoso/core/check.h"
#include "yoso/core/random.h"
#include "yoso/tasks/lines.h"
#include "yoso/tasks/pathfinder_drawing.h"

namespace yoso::pathfinder {
namespace {

constexpr double kPi = std::numbers::pi;

// Of the Long Range Arena, by size of the image.
struct Parameters {
  int64_t side, padding, length;  // padding: cells of the border that stay free; L
  double thickness;               // T
  std::vector<int64_t> margins;   // m is one of these, drawn for each image
  double marker_radius;
  int64_t seed_distance;  // between the beginnings of the long snakes
  double continuity;      // how little snakes bend
  int64_t distractors;    // paddles of all short snakes together
  double snake_contrast, paddle_contrast;
};

const Parameters& parameters(int64_t side) {
  static const std::array<Parameters, 4> kAll = {{
      {32, 1, 2, 0.5, {1}, 1.5, 7, 1.0, 20, 2.0, 0.75},
      {64, 1, 5, 1.0, {1}, 2.5, 12, 1.8, 22, 0.8, 1.0},
      {128, 1, 5, 1.5, {2, 3}, 3.0, 20, 1.8, 35, 0.9, 1.0},
      {256, 22, 5, 2.0, {3}, 5.0, 27, 1.8, 30, 1.0, 1.0},
  }};
  return *std::find_if(kAll.begin(), kAll.end(), [&](const auto& p) { return p.side == side; });
}

constexpr int64_t kPaddleTries = 3, kDistractorTries = 5;
constexpr uint8_t kTaken = 255;
// Of bytes: a cell is free up to 0.3, and two masks may overlap up to a sum of 1.8, excluded.
constexpr int kMostOfFree = 76, kLeastOfCollision = 459;

// step() far from the edges, where the ceiling has swallowed the noise.
Place offset(double angle, double length) {
  constexpr Place kFar{64, 64};
  return step(kFar, angle, length) - kFar;
}

// One way in which a paddle can lie.
struct Orientation {
  double angle;                 // from tail to head
  PaddlePatch patch;            // drawn from the place that is kept as its own
  Place ahead;                  // from a pivot to the next one
  std::vector<double> weights;  // of the candidates that may follow, by bend alone
  // Of seeds only.
  std::vector<Place> footprint;  // what it surely occupies, seen from its tail
  bool begins_snakes = false;    // see_every_corner(footprint)
  Place head, pivot;             // from the tail
};

struct Placed {
  const Orientation* orientation;
  Place at;
};

struct Snake {
  std::vector<Placed> paddles;
  Place pivot;

  Place tail() const { return paddles.front().at; }
  Place tip() const { return paddles.back().at; }
};

// Whether the footprint has a cell inside the window even from a tail in its corners. In the
// original a direction without fails wherever the tail is, so that most snakes begin towards the
// upper left.
bool see_every_corner(std::span<const Place> footprint) {
  const auto has = [&](int64_t down, int64_t right) {
    return std::any_of(footprint.begin(), footprint.end(),
                       [&](Place p) { return p.y * down >= 0 && p.x * right >= 0; });
  };
  return has(1, 1) && has(1, -1) && has(-1, 1) && has(-1, -1);
}

// Calls f(cell of the window, cell of the patch) where the patch around `at` lies in the window.
template <class F>
void for_overlap(int64_t window, const Grid& patch, Place at, F&& f) {
  const int64_t half = patch.side / 2;
  const Place corner = at - Place{half, half};
  const int64_t y_end = std::min(patch.side, window - corner.y);
  const int64_t x_end = std::min(patch.side, window - corner.x);
  for (int64_t y = std::max<int64_t>(0, -corner.y); y < y_end; ++y) {
    for (int64_t x = std::max<int64_t>(0, -corner.x); x < x_end; ++x)
      f(static_cast<size_t>((corner.y + y) * window + corner.x + x),
        static_cast<size_t>(y * patch.side + x));
  }
}

bool fits(const Grid& occupied, const Grid& mask, Place at) {
  int most = 0;
  for_overlap(occupied.side, mask, at, [&](size_t cell, size_t in_patch) {
    most = std::max(most, occupied.cells[cell] + mask.cells[in_patch]);
  });
  return most < kLeastOfCollision;
}

void occupy(Grid& occupied, const Placed& paddle) {
  const Grid& mask = paddle.orientation->patch.mask;
  for_overlap(occupied.side, mask, paddle.at, [&](size_t cell, size_t in_patch) {
    occupied.cells[cell] = std::max(occupied.cells[cell], mask.cells[in_patch]);
  });
}

void set_border(Grid& grid, int64_t width) {
  for (int64_t y = 0; y < grid.side; ++y) {
    for (int64_t x = 0; x < grid.side; ++x) {
      if (std::min({y, x, grid.side - 1 - y, grid.side - 1 - x}) < width) grid.at(y, x) = kTaken;
    }
  }
}

void paint(std::vector<float>& image, int64_t side, const Snake& snake, double contrast) {
  const auto scale = static_cast<float>(contrast / 255);
  for (const Placed& paddle : snake.paddles) {
    const Grid& light = paddle.orientation->patch.light;
    for_overlap(side, light, paddle.at, [&](size_t cell, size_t in_patch) {
      image[cell] = std::max(image[cell], scale * light.cells[in_patch]);
    });
  }
}

std::vector<uint8_t> rescaled(const std::vector<float>& image) {
  const auto [least, most] = std::minmax_element(image.begin(), image.end());
  const float scale = 255 / (*most - *least);
  std::vector<uint8_t> pixels;
  pixels.reserve(image.size());
  for (const float v : image) pixels.push_back(static_cast<uint8_t>((v - *least) * scale + 0.5f));
  return pixels;
}

}  // namespace

// Everything that depends on size and margin but not on the image.
struct Generator::Tables {
  Tables(const Parameters& p, int64_t margin)
      : p(p), paddle{p.length, p.thickness, margin}, around(disk(margin)), empty(p.side) {
    set_border(empty, p.padding);
    find_candidates();
    for (int64_t degree = -180; degree < 180; ++degree)
      seeds.push_back(seed(static_cast<double>(degree) * kPi / 180));
  }

  // Where the next paddle may end, seen from its pivot: cells of a circle, each once, by y, then x.
  void find_candidates() {
    const auto radius = static_cast<double>(p.length + paddle.margin);
    constexpr double kFar = 64;  // rounding towards zero is downwards there
    for (int64_t i = 0; static_cast<double>(i) / radius < 2 * kPi; ++i) {
      const double angle = static_cast<double>(i) / radius;
      ends.push_back({static_cast<int64_t>(kFar + radius * std::sin(angle)) - 64,
                      static_cast<int64_t>(kFar + radius * std::cos(angle)) - 64});
    }
    const auto before = [](Place a, Place b) { return a.y != b.y ? a.y < b.y : a.x < b.x; };
    std::sort(ends.begin(), ends.end(), before);
    ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
    std::erase(ends, Place{});  // no direction leads there; only for a radius below 1
    for (const Place end : ends) {
      const double angle = std::atan2(end.y, end.x);
      bends.push_back(
          {angle, draw_paddle(paddle, angle + kPi), ahead(angle), weights(angle), {}, {}, {}});
    }
  }

  Place ahead(double angle) const {
    return offset(angle, static_cast<double>(p.length + 2 * paddle.margin));
  }

  std::vector<double> weights(double angle) const {
    std::vector<double> all;
    for (const Place end : ends) {
      const double apart = std::abs(std::atan2(end.y, end.x) - angle);
      const double bend = std::min(apart, 2 * kPi - apart) * p.continuity;
      const double cosine = std::max(0.0, std::cos(std::min(bend, kPi / 2)));
      all.push_back(cosine * cosine);
    }
    return all;
  }

  Orientation seed(double angle) const {
    Orientation o{angle, draw_paddle(paddle, angle), ahead(angle), weights(angle), {}, {}, {}};
    o.head = offset(angle, static_cast<double>(p.length));
    o.pivot = o.head + offset(angle + kPi, static_cast<double>(p.length + paddle.margin));
    // The original's kernel of 2(L + m) + 1 cells has the tail one cell after its centre.
    const int64_t reach = p.length + paddle.margin, half = paddle.half();
    for (int64_t y = 0; y <= 2 * half; ++y) {
      for (int64_t x = 0; x <= 2 * half; ++x) {
        const Place from_centre{y - half + 1, x - half + 1};
        const bool inside = std::max(std::abs(from_centre.y), std::abs(from_centre.x)) <= reach;
        if (inside && o.patch.mask.at(y, x) == 255) o.footprint.push_back(from_centre);
      }
    }
    o.begins_snakes = see_every_corner(o.footprint);
    return o;
  }

  const Orientation& any_seed(Random& random) const {
    return seeds[random.below(static_cast<uint32_t>(seeds.size()))];
  }

  // Nothing when head or pivot would be outside.
  std::optional<Snake> begin(const Orientation& o, Place tail) const {
    if (!empty.contains(tail) || !empty.contains(tail + o.head) ||
        !empty.contains(tail + o.pivot)) {
      return std::nullopt;
    }
    return Snake{{{&o, tail}}, tail + o.pivot};
  }

  // The first long snake begins at least two seed distances from the edge.
  std::optional<Snake> begin_first(Random& random) const {
    for (int64_t i = 0; i < kPaddleTries; ++i) {
      const Orientation& o = any_seed(random);
      if (!o.begins_snakes) return std::nullopt;
      // Free are the tails whose whole footprint is inside: a rectangle.
      Place low, high;
      for (const Place cell : o.footprint) {
        low = {std::min(low.y, cell.y), std::min(low.x, cell.x)};
        high = {std::max(high.y, cell.y), std::max(high.x, cell.x)};
      }
      const int64_t border = 2 * p.seed_distance, size = p.side - 2 * border;
      const int64_t rows = size - (high.y - low.y), cols = size - (high.x - low.x);
      if (rows < 1 || cols < 1) return std::nullopt;
      const Place tail{border - low.y + random.below(static_cast<uint32_t>(rows)),
                       border - low.x + random.below(static_cast<uint32_t>(cols))};
      if (auto snake = begin(o, tail)) return snake;
    }
    return std::nullopt;
  }

  std::optional<Snake> begin_second(Place first_tail, Random& random) const {
    for (int64_t i = 0; i < kPaddleTries; ++i) {
      const Orientation& o = any_seed(random);
      const double direction = random.below(360) * kPi / 180;
      const auto distance = static_cast<double>(p.seed_distance);
      const Place tail = first_tail + Place{std::lrint(distance * std::sin(direction)),
                                            std::lrint(distance * std::cos(direction))};
      if (auto snake = begin(o, tail)) return snake;
    }
    return std::nullopt;
  }

  std::optional<Snake> begin_distractor(const Grid& occupied, Random& random) const {
    Grid taken = occupied;
    set_border(taken, 1);
    for (uint8_t& cell : taken.cells) cell = cell > kMostOfFree;
    const auto free = std::count(taken.cells.begin(), taken.cells.end(), 0);
    if (free * 100 < std::ssize(taken.cells)) return std::nullopt;
    for (int64_t i = 0; i < kPaddleTries; ++i) {
      const Orientation& o = any_seed(random);
      if (!o.begins_snakes) return std::nullopt;
      const Grid blocked = dilate(taken, o.footprint);
      const auto places = std::count(blocked.cells.begin(), blocked.cells.end(), 0);
      if (places == 0) return std::nullopt;
      int64_t left = random.below(static_cast<uint32_t>(places));
      int64_t cell = 0;
      while (blocked.cells[static_cast<size_t>(cell)] != 0 || left-- > 0) ++cell;
      if (auto snake = begin(o, {cell / p.side, cell % p.side})) return snake;
    }
    return std::nullopt;
  }

  // Adds a paddle. The newest one is not in `occupied`, so that this one may begin beside it.
  bool extend(Snake& snake, Grid& occupied, Random& random) const {
    const Orientation& last = *snake.paddles.back().orientation;
    const Place pivot = snake.pivot + last.ahead;
    // At most the 46 cells of a circle of radius 8.
    std::array<double, 64> cumulated{};
    double sum = 0;
    for (size_t i = 0; i < ends.size(); ++i) {
      const Place end = pivot + ends[i];
      if (last.weights[i] > 0 && occupied.contains(end)) {
        int taken = 0;
        for (const Place o : around) {
          if (occupied.contains(end + o))
            taken = std::max<int>(taken, occupied.at(end.y + o.y, end.x + o.x));
        }
        sum += last.weights[i] * (255 - taken) / 255;
      }
      cumulated[i] = sum;
    }
    if (sum < 1e-4) return false;
    for (int64_t i = 0; i < kPaddleTries; ++i) {
      const double u = random.uniform() * sum;
      const auto first = cumulated.begin(), final = first + std::ssize(ends) - 1;
      const auto chosen = static_cast<size_t>(std::upper_bound(first, final, u) - first);
      const Placed paddle{&bends[chosen], pivot + ends[chosen]};
      if (!fits(occupied, paddle.orientation->patch.mask, paddle.at)) continue;
      occupy(occupied, snake.paddles.back());
      snake.paddles.push_back(paddle);
      snake.pivot = pivot;
      return true;
    }
    return false;
  }

  bool draw_two(std::array<Snake, 2>& snakes, int64_t length, Grid& occupied,
                Random& random) const {
    const auto first = begin_first(random);
    const auto second = first ? begin_second(first->tail(), random) : std::nullopt;
    if (!second) return false;
    snakes = {*first, *second};
    for (int64_t i = 1; i < length; ++i) {
      for (Snake& snake : snakes) {
        if (!extend(snake, occupied, random)) return false;
      }
    }
    // As in the original, the first snake's newest paddle stays out.
    occupy(occupied, snakes[1].paddles.back());
    return true;
  }

  // Leaves `occupied` as it is when no try succeeds.
  std::optional<Snake> draw_distractor(int64_t length, Grid& occupied, Random& random) const {
    for (int64_t i = 0; i < kDistractorTries; ++i) {
      Grid tried = occupied;
      auto snake = begin_distractor(tried, random);
      bool whole = snake.has_value();
      for (int64_t n = 1; whole && n < length; ++n) whole = extend(*snake, tried, random);
      if (!whole) continue;
      occupy(tried, snake->paddles.back());
      occupied = std::move(tried);
      return snake;
    }
    return std::nullopt;
  }

  const Parameters& p;
  Paddle paddle;
  std::vector<Place> around;  // the cells within the margin
  Grid empty;                 // what is occupied at first
  std::vector<Place> ends;    // candidates: ends of the next paddle, seen from its pivot
  std::vector<Orientation> bends, seeds;  // of the candidates; of every whole degree
};

int64_t contour_length(Difficulty difficulty) {
  constexpr int64_t kLengths[] = {6, 9, 14};
  return kLengths[static_cast<size_t>(difficulty)];
}

const char* name_of(Difficulty difficulty) {
  constexpr const char* kNames[] = {"easy", "intermediate", "hard"};
  return kNames[static_cast<size_t>(difficulty)];
}

const char* folder_of(Difficulty difficulty) {
  constexpr const char* kFolders[] = {"curv_baseline", "curv_contour_length_9",
                                      "curv_contour_length_14"};
  return kFolders[static_cast<size_t>(difficulty)];
}

Difficulty difficulty_of(const std::string& name) {
  for (const auto d : {Difficulty::kEasy, Difficulty::kIntermediate, Difficulty::kHard})
    if (name == name_of(d)) return d;
  fail("pathfinder: difficulty is ", in_quotes(name), ", expected easy, intermediate or hard");
}

void Settings::check() const {
  YOSO_CHECK(std::find(kSides.begin(), kSides.end(), side) != kSides.end(), "side", side,
             "32, 64, 128 or 256");
}

Generator::Generator(const Settings& settings) : settings_(settings) {
  settings.check();
  const Parameters& p = parameters(settings.side);
  for (const int64_t margin : p.margins) tables_.push_back(std::make_unique<Tables>(p, margin));
}

Generator::~Generator() = default;

Drawing Generator::draw(uint64_t index) const {
  Random random(settings_.seed, index);
  Drawing drawing;
  drawing.label = random.below(2);
  const Tables& tables = *tables_[random.below(static_cast<uint32_t>(tables_.size()))];
  const Parameters& p = tables.p;
  const int64_t length = contour_length(settings_.difficulty), short_length = length / 3;

  std::array<Snake, 2> snakes;
  Grid occupied(p.side);
  do {
    ++drawing.tries;
    occupied = tables.empty;
  } while (!tables.draw_two(snakes, length, occupied, random));

  std::vector<float> image(static_cast<size_t>(p.side * p.side));
  for (const Snake& snake : snakes)
    paint(image, p.side, snake, p.snake_contrast * p.paddle_contrast);
  for (int64_t i = 0; i < p.distractors / short_length; ++i) {
    if (const auto snake = tables.draw_distractor(short_length, occupied, random))
      paint(image, p.side, *snake, p.snake_contrast);
  }

  const auto marked = random.below(2);
  const auto& other = snakes[drawing.label == 1 ? marked : 1 - marked];
  for (const Place tip : {snakes[marked].tail(), other.tip()}) {
    const Grid circle = draw_circle(p.side, tip, p.marker_radius);
    for (size_t i = 0; i < image.size(); ++i)
      image[i] = std::max(image[i], static_cast<float>(circle.cells[i]) / 255);
  }
  drawing.pixels = rescaled(image);
  return drawing;
}

}  // namespace yoso::pathfinder
