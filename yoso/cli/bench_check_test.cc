// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/bench_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "yoso/core/testing.h"

namespace yoso {
namespace {

using testing::HasSubstr;

BenchCase case_of(const std::string& kind, const std::string& dtype = "float32") {
  BenchCase c;
  c.kind = kind;
  c.dtype = dtype;
  c.width = 40;
  return c;
}

std::string refusal(const std::string& kind, const AttentionFunction& attention) {
  return error_of([&] { check_attention(case_of(kind), attention); });
}

TEST(BenchCheck, AcceptsTheOperators) {
  for (const char* dtype : {"float32", "bfloat16", "float16"})
    check_attention(case_of("auto", dtype));
  BenchCase c = case_of("sampled");
  c.bits = 13;
  c.hashes = 5;
  c.width = 7;
  check_attention(c);
}

TEST(BenchCheck, RefusesAWrongOutput) {
  // One key too few: the smallest fault of a tail.
  const auto forgets_a_key = [](const YosoInputs& in, const YosoOptions& options) {
    YosoInputs fewer = in;
    fewer.key_mask = in.key_mask.clone();
    fewer.key_mask.select(1, 20).fill_(false);
    return yoso_attention(fewer, options);
  };
  for (const char* kind : {"sampled", "expected"})
    EXPECT_THAT(refusal(kind, forgets_a_key), HasSubstr("not timed"));
}

TEST(BenchCheck, RefusesAWrongGradient) {
  // The value is right, the gradient of queries is 6 % too large (an exact float factor).
  const auto wrong = [](const YosoInputs& in, const YosoOptions& options) {
    YosoInputs scaled = in;
    scaled.query = in.query * 1.0625 - (in.query * 0.0625).detach();
    return yoso_attention(scaled, options);
  };
  for (const char* kind : {"sampled", "expected"}) {
    EXPECT_THAT(refusal(kind, wrong), HasSubstr("the gradient of query of " + std::string(kind) +
                                                " attention in float32 differs"));
  }
}

TEST(BenchCheck, RefusesAnotherSeed) {
  const auto other = [](const YosoInputs& in, const YosoOptions& options) {
    YosoOptions changed = options;
    changed.seed = *options.seed + 1;
    return yoso_attention(in, changed);
  };
  EXPECT_THAT(refusal("sampled", other), HasSubstr("the output of sampled attention"));
}

}  // namespace
}  // namespace yoso
