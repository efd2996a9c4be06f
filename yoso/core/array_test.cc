// SPDX-License-Identifier: Apache-2.0
#include "yoso/core/array.h"

#include <gtest/gtest.h>

#include "yoso/core/check.h"

namespace yoso {
namespace {

TEST(Array, DenseFindsEveryElement) {
  float data[2 * 3 * 4 * 5];
  for (int i = 0; i < 120; ++i) data[i] = static_cast<float>(i);
  const ConstArray a = dense(data, 2, 3, 4, 5);
  EXPECT_EQ(a.dtype, DType::kFloat32);
  EXPECT_EQ(a.size(), 120);
  EXPECT_EQ(a.row<float>(1, 2, 3)[4], 119);
  EXPECT_EQ(a.row<float>(1, 0, 2)[1], 71);
}

TEST(Rows, PaddedSequencesAreBatchEntries) {
  const bool mask[] = {true, true, false, /*stride*/ false, true, false, false};
  const Rows side{.mask = mask, .mask_stride = 4};
  EXPECT_EQ(side.count(2), 2);
  const Sequence second = sequence(side, 1, 3);
  EXPECT_EQ(second.batch, 1);
  EXPECT_EQ(second.begin, 0);
  EXPECT_EQ(second.rows, 3);
  EXPECT_TRUE(second.is_real(0));
  EXPECT_FALSE(second.is_real(1));
  EXPECT_TRUE(sequence(side, 0, 3).is_real(1));
  EXPECT_TRUE(sequence(Rows{}, 1, 3).is_real(2));
}

TEST(Rows, RaggedSequencesAreRunsOfRows) {
  const int64_t offsets[] = {0, 2, 2, 5};
  const bool mask[] = {true, true, false, true, false};
  const Rows side{.offsets = offsets, .sequences = 3, .mask = mask, .mask_stride = 5};
  EXPECT_EQ(side.count(1), 3);
  EXPECT_EQ(sequence(side, 1, 5).rows, 0);
  const Sequence last = sequence(side, 2, 5);
  EXPECT_EQ(last.batch, 0);
  EXPECT_EQ(last.begin, 2);
  EXPECT_EQ(last.rows, 3);
  EXPECT_FALSE(last.is_real(0));
  EXPECT_TRUE(last.is_real(1));
}

struct Checked {
  static constexpr const char* kName = "checked";
  int64_t got = 6, expected = 5;

  void equal() const { YOSO_CHECK_EQ(got, expected); }
  void range() const { YOSO_CHECK_RANGE(got, 1, 5); }
  void text() const { YOSO_CHECK(got == expected, "the number", got, "another"); }
};

TEST(Check, SaysWhatGotAndExpected) {
  const auto message = [](auto&& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  const Checked wrong, right{5, 5};
  EXPECT_EQ(message([&] { wrong.equal(); }), "checked: got is 6, expected expected = 5");
  EXPECT_EQ(message([&] { wrong.range(); }), "checked: got is 6, expected 1 to 5");
  EXPECT_EQ(message([&] { wrong.text(); }), "checked: the number is 6, expected another");
  EXPECT_EQ(message([&] { right.equal(), right.range(), right.text(); }), "no error");
}

}  // namespace
}  // namespace yoso
