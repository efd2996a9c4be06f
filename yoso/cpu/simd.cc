// SPDX-License-Identifier: Apache-2.0
#include "yoso/cpu/simd.h"

#include <hwy/targets.h>

#include <cstdlib>

#include "yoso/core/check.h"

namespace yoso::cpu {
namespace {

struct Level {
  const char* name;
  int64_t target;
};

// The kernels are compiled for these (HWY_DISABLED_TARGETS in CMakeLists.txt); the last
// one stands for whatever Highway compiles for plain x86-64.
constexpr Level kLevels[] = {
    {"avx3", HWY_AVX3}, {"avx2", HWY_AVX2}, {"sse4", HWY_SSE4}, {"scalar", HWY_STATIC_TARGET}};

// What the processor offers, before anything is disabled.
int64_t processor_targets() {
  static const int64_t targets = hwy::SupportedTargets() | HWY_STATIC_TARGET;
  return targets;
}

const Level& choose_level() {
  const int64_t available = processor_targets();
  const char* wanted = std::getenv("YOSO_SIMD");
  const bool forced = wanted != nullptr && *wanted != '\0';
  for (const Level& level : kLevels) {
    if ((level.target & available) == 0) continue;
    if (forced && level.name != std::string(wanted)) continue;
    if (forced) hwy::DisableTargets(~level.target);
    return level;
  }
  fail("YOSO_SIMD: is ", wanted, ", expected one of ", listed(supported_simd_levels()));
}

const Level& level_in_use() {
  static const Level& level = choose_level();
  return level;
}

}  // namespace

std::vector<std::string> simd_levels() {
  std::vector<std::string> names;
  for (const Level& level : kLevels) names.emplace_back(level.name);
  return names;
}

std::vector<std::string> supported_simd_levels() {
  std::vector<std::string> names;
  for (const Level& level : kLevels) {
    if (level.target & processor_targets()) names.emplace_back(level.name);
  }
  return names;
}

std::string simd_level() { return level_in_use().name; }

void use_simd_level() { level_in_use(); }

}  // namespace yoso::cpu
