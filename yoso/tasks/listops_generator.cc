// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/listops_generator.h"

#include <unordered_set>

#include "yoso/core/check.h"
#include "yoso/core/random.h"
#include "yoso/cpu/parallel.h"
#include "yoso/tasks/listops_language.h"

namespace yoso::listops {
namespace {

using Expression = std::vector<uint8_t>;

// Appends a random tree to `symbols`. Stops as soon as they are too many to be kept.
void draw_tree(const TreeSettings& settings, int64_t depth, Random& random, Expression& symbols) {
  if (depth == settings.max_depth || random.uniform() > 0.25) {
    symbols.push_back(static_cast<uint8_t>(random.below(10)));
    return;
  }
  const size_t place = symbols.size();
  symbols.push_back(0);  // the operator is drawn after its arguments
  const int64_t args = 2 + random.below(static_cast<uint32_t>(settings.max_args - 1));
  for (int64_t i = 0; i < args; ++i) {
    draw_tree(settings, depth + 1, random, symbols);
    if (static_cast<int64_t>(symbols.size()) >= settings.below_length) return;
  }
  constexpr uint8_t kDrawn[] = {kMin, kMax, kMed, kSm};
  symbols[place] = kDrawn[random.below(4)];
  symbols.push_back(kClose);
}

// FNV-1a. Two expressions with one fingerprint count as equal: never a repetition, and one in
// 10^9 sets of 100,000 lacks a tree that it could have had.
uint64_t fingerprint(const Expression& symbols) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const uint8_t symbol : symbols) hash = (hash ^ symbol) * 0x100000001b3u;
  return hash;
}

}  // namespace

void TreeSettings::check() const {
  YOSO_CHECK_RANGE(max_depth, 1, 100);
  YOSO_CHECK_RANGE(max_args, 2, 1000);
  YOSO_CHECK_RANGE(above_length, 0, 1'000'000);
  YOSO_CHECK_RANGE(below_length, above_length + 2, 1'000'000);
}

std::optional<Expression> draw(const TreeSettings& settings, uint64_t attempt) {
  Random random(settings.seed, attempt);
  Expression symbols;
  draw_tree(settings, 1, random, symbols);
  const auto length = static_cast<int64_t>(symbols.size());
  if (length <= settings.above_length || length >= settings.below_length) return std::nullopt;
  return symbols;
}

void generate(const TreeSettings& settings, int64_t count,
              const std::function<void(std::span<const uint8_t>)>& sink) {
  settings.check();
  constexpr uint64_t kItems = 64, kAttempts = 512;  // of a round: about 3 MB of kept expressions
  constexpr int64_t kPatience = 100;                // rounds in a row that bring nothing new
  std::vector<std::vector<Expression>> kept(kItems);
  std::unordered_set<uint64_t> seen;
  int64_t given = 0;
  for (uint64_t round = 0, last_useful = 0; given < count; ++round) {
    if (round > last_useful + kPatience) {
      fail("listops: only ", given, " different expressions of more than ", settings.above_length,
           " and fewer than ", settings.below_length, " symbols found, expected ", count);
    }
    cpu::parallel_for(kItems, [&](int64_t item, int64_t) {
      auto& mine = kept[static_cast<size_t>(item)];
      mine.clear();
      const uint64_t first = (round * kItems + static_cast<uint64_t>(item)) * kAttempts;
      for (uint64_t attempt = first; attempt < first + kAttempts; ++attempt) {
        if (auto expression = draw(settings, attempt)) mine.push_back(std::move(*expression));
      }
    });
    for (const auto& item : kept) {
      for (const Expression& expression : item) {
        if (given == count) return;
        if (!seen.insert(fingerprint(expression)).second) continue;
        sink(expression);
        ++given;
        last_useful = round;
      }
    }
  }
}

}  // namespace yoso::listops
