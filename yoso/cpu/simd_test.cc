// The level is chosen once a process, so each case forks.
// SPDX-License-Identifier: Apache-2.0
#include "yoso/cpu/simd.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "yoso/core/check.h"

namespace yoso::cpu {
namespace {

// Prints the level or the Error that YOSO_SIMD = `value` leads to, and exits.
[[noreturn]] void report_level(const char* value) {
  value ? setenv("YOSO_SIMD", value, 1) : unsetenv("YOSO_SIMD");
  try {
    use_simd_level();
    std::fprintf(stderr, "level <%s>", simd_level().c_str());
  } catch (const Error& error) {
    std::fprintf(stderr, "error <%s>", error.what());
  }
  std::_Exit(0);
}

class SimdTest : public ::testing::Test {
 protected:
  SimdTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(SimdTest, LevelsAreTheFourOfTheHeader) {
  EXPECT_EQ(simd_levels(), (std::vector<std::string>{"avx3", "avx2", "sse4", "scalar"}));
  const std::vector<std::string> all = simd_levels(), supported = supported_simd_levels();
  ASSERT_FALSE(supported.empty());
  EXPECT_EQ(supported.back(), "scalar");
  for (const std::string& level : supported)
    EXPECT_EQ(std::count(all.begin(), all.end(), level), 1) << level;
}

TEST_F(SimdTest, TheBestLevelIsTheDefault) {
  const std::string best = "level <" + supported_simd_levels().front() + ">";
  EXPECT_EXIT(report_level(nullptr), ::testing::ExitedWithCode(0), best);
  EXPECT_EXIT(report_level(""), ::testing::ExitedWithCode(0), best);
}

TEST_F(SimdTest, TheVariableNamesTheLevel) {
  for (const std::string& level : supported_simd_levels()) {
    EXPECT_EXIT(report_level(level.c_str()), ::testing::ExitedWithCode(0), "level <" + level + ">");
  }
}

TEST_F(SimdTest, AnUnknownLevelIsAnError) {
  EXPECT_EXIT(
      report_level("avx9"), ::testing::ExitedWithCode(0),
      "error <YOSO_SIMD: is avx9, expected one of " + listed(supported_simd_levels()) + ">");
  EXPECT_EXIT(report_level("AVX2"), ::testing::ExitedWithCode(0), "error <YOSO_SIMD: is AVX2, ");
}

}  // namespace
}  // namespace yoso::cpu
