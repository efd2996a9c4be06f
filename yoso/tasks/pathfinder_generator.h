// Pathfinder images (Linsley et al. 2018, Kim et al. 2020; the parameters of the Long Range Arena):
// two long snakes of paddles among short ones, and two markers. Label 1: both markers are at the
// ends of one long snake.
//
// Image i is drawn from stream i of the seed: a function of the settings and i alone.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace yoso::pathfinder {

enum class Difficulty : uint8_t { kEasy, kIntermediate, kHard };
// Paddles of a long snake, and the folder of the Long Range Arena with such images.
int64_t contour_length(Difficulty difficulty);  // 6, 9, 14
const char* name_of(Difficulty difficulty);     // "easy", "intermediate", "hard"
const char* folder_of(Difficulty difficulty);   // "curv_baseline", "curv_contour_length_9", ..._14
Difficulty difficulty_of(const std::string& name);  // throws Error

inline constexpr std::array<int64_t, 4> kSides = {32, 64, 128, 256};

struct Settings {
  static constexpr const char* kName = "pathfinder";

  int64_t side = 32;  // one of kSides
  Difficulty difficulty = Difficulty::kHard;
  uint64_t seed = 0;

  void check() const;  // throws Error
};

struct Drawing {
  std::vector<uint8_t> pixels;  // [side, side]
  int64_t label = 0;
  int64_t tries = 0;  // at placing the two long snakes
};

class Generator {
 public:
  // Draws every paddle there can be, once. Throws Error.
  explicit Generator(const Settings& settings);
  ~Generator();

  // Safe to call from several threads at once. An image of 32 x 32 takes about a millisecond.
  Drawing draw(uint64_t index) const;

 private:
  struct Tables;
  Settings settings_;
  std::vector<std::unique_ptr<Tables>> tables_;  // one a margin
};

}  // namespace yoso::pathfinder
