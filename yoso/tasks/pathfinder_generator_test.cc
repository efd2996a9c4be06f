// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/pathfinder_generator.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "yoso/core/testing.h"
#include "yoso/cpu/parallel.h"

namespace yoso::pathfinder {
namespace {

std::vector<Drawing> drawings(const Settings& settings, int64_t count) {
  const Generator generator(settings);
  std::vector<Drawing> all(static_cast<size_t>(count));
  cpu::parallel_for(count, [&](int64_t i, int64_t) {
    all[static_cast<size_t>(i)] = generator.draw(static_cast<uint64_t>(i));
  });
  return all;
}

// Mean over images, and how far the mean of `of` images drawn anew would typically be from it.
struct Mean {
  double mean, error;
};
Mean mean(const std::vector<Drawing>& all, int64_t of,
          const std::function<double(const Drawing&)>& value) {
  double sum = 0, squares = 0;
  for (const Drawing& d : all) {
    const double v = value(d);
    sum += v;
    squares += v * v;
  }
  const auto n = static_cast<double>(all.size());
  const double variance = squares / n - sum / n * sum / n;
  return {sum / n, std::sqrt(variance * (1 / n + 1 / static_cast<double>(of)))};
}

double share(const Drawing& d, uint8_t least) {
  const auto count =
      std::count_if(d.pixels.begin(), d.pixels.end(), [&](uint8_t p) { return p >= least; });
  return static_cast<double>(count) / static_cast<double>(d.pixels.size());
}
double brightness(const Drawing& d) {
  double sum = 0;
  for (const uint8_t p : d.pixels) sum += p;
  return sum / static_cast<double>(d.pixels.size());
}

// The published mean of `of` images is within four deviations of the difference of two means.
#define EXPECT_PUBLISHED(all, of, published, value)                                 \
  {                                                                                 \
    const Mean m = mean(all, of, [](const Drawing& d) -> double { return value; }); \
    EXPECT_NEAR(m.mean, published, 4 * m.error) << #value;                          \
  }

// Measured on 300 images of the original program.
TEST(PathfinderGenerator, HardImagesHaveTheStatisticsOfTheOriginal) {
  const auto all = drawings({}, 1500);
  EXPECT_PUBLISHED(all, 300, 20.35, brightness(d));
  EXPECT_PUBLISHED(all, 300, 0.343, share(d, 1));
  EXPECT_PUBLISHED(all, 300, 0.127, share(d, 64));
  EXPECT_PUBLISHED(all, 300, 0.086, share(d, 128));
  EXPECT_PUBLISHED(all, 300, 0.019, share(d, 192));
  EXPECT_PUBLISHED(all, 300, 0.5, static_cast<double>(d.label));
  EXPECT_PUBLISHED(all, 300, 296, static_cast<double>(d.tries));  // 275 to 317 in its runs
  for (const Drawing& d : all) {
    EXPECT_EQ(*std::max_element(d.pixels.begin(), d.pixels.end()), 255);
    EXPECT_EQ(*std::min_element(d.pixels.begin(), d.pixels.end()), 0);
  }
  double squares = 0, sum = 0;
  for (const Drawing& d : all)
    for (const uint8_t p : d.pixels) squares += p * p, sum += p;
  const double pixels = 1500.0 * 1024;
  EXPECT_NEAR(std::sqrt(squares / pixels - sum / pixels * sum / pixels), 51.3, 1.5);
}

TEST(PathfinderGenerator, EasierImagesHaveTheStatisticsOfTheOriginal) {
  const auto easy = drawings({.difficulty = Difficulty::kEasy}, 1500);
  EXPECT_PUBLISHED(easy, 40, 13.2, brightness(d));
  EXPECT_PUBLISHED(easy, 40, 0.234, share(d, 1));
  EXPECT_PUBLISHED(easy, 40, 23, static_cast<double>(d.tries));
  const auto intermediate = drawings({.difficulty = Difficulty::kIntermediate}, 1500);
  EXPECT_PUBLISHED(intermediate, 40, 15.5, brightness(d));
  EXPECT_PUBLISHED(intermediate, 40, 0.267, share(d, 1));
  EXPECT_PUBLISHED(intermediate, 40, 43, static_cast<double>(d.tries));
}

TEST(PathfinderGenerator, ImagesOf64HaveTheStatisticsOfTheOriginal) {
  const auto all = drawings({.side = 64}, 12);
  EXPECT_PUBLISHED(all, 5, 13.6, brightness(d));
  EXPECT_PUBLISHED(all, 5, 0.266, share(d, 1));
  EXPECT_PUBLISHED(all, 5, 6700, static_cast<double>(d.tries));
}

TEST(PathfinderGenerator, DrawsPathX) {
  const auto all = drawings({.side = 128}, 40);
  EXPECT_PUBLISHED(all, 5, 530, static_cast<double>(d.tries));
  for (const Drawing& d : all) EXPECT_EQ(d.pixels.size(), 128 * 128);
}

TEST(PathfinderGenerator, DrawsImagesOf256) {
  const auto all = drawings({.side = 256}, 2);
  for (const Drawing& d : all) EXPECT_EQ(d.pixels.size(), 256 * 256);
}

TEST(PathfinderGenerator, GivesTheSameForAnyNumberOfThreads) {
  const int64_t before = cpu::num_threads();
  std::vector<std::vector<Drawing>> all;
  for (const int64_t threads : {1, 4}) {
    cpu::set_num_threads(threads);
    all.push_back(drawings({.seed = 3}, 50));
  }
  cpu::set_num_threads(before);
  for (size_t i = 0; i < 50; ++i) {
    EXPECT_EQ(all[0][i].pixels, all[1][i].pixels);
    EXPECT_EQ(all[0][i].label, all[1][i].label);
  }
}

TEST(PathfinderGenerator, AnotherSeedOrIndexGivesAnotherImage) {
  const Generator generator({.difficulty = Difficulty::kEasy}),
      other({.difficulty = Difficulty::kEasy, .seed = 1});
  EXPECT_NE(generator.draw(0).pixels, generator.draw(1).pixels);
  EXPECT_NE(generator.draw(0).pixels, other.draw(0).pixels);
}

TEST(PathfinderGenerator, RefusesOtherSizesAndDifficulties) {
  EXPECT_EQ(error_of([] { Generator({.side = 48}); }),
            "pathfinder: side is 48, expected 32, 64, 128 or 256");
  EXPECT_EQ(error_of([] { difficulty_of("harder"); }),
            "pathfinder: difficulty is 'harder', expected easy, intermediate or hard");
}

}  // namespace
}  // namespace yoso::pathfinder
