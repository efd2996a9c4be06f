// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/task_options.h"

#include <gmock/gmock.h>

#include "yoso/core/testing.h"

namespace yoso {
namespace {

using testing::ElementsAre;
using testing::Pair;

TEST(OptionReader, ReadsValuesAndFallsBack) {
  OptionReader reader("toy", {{"length", "64"}, {"rate", "2.5e-1"}, {"name", "a b"}});
  EXPECT_EQ(reader.integer("length", 32, 1, 100), 64);
  EXPECT_EQ(reader.integer("width", 8, 1, 100), 8);
  EXPECT_EQ(reader.number("rate", 0.5, 0, 1), 0.25);
  EXPECT_EQ(reader.number("share", 0.1, 0, 1), 0.1);
  EXPECT_EQ(reader.text("name", "c"), "a b");
  EXPECT_EQ(reader.text("other", "c"), "c");
  EXPECT_THAT(reader.finish(),
              ElementsAre(Pair("length", "64"), Pair("name", "a b"), Pair("other", "c"),
                          Pair("rate", "2.5e-1"), Pair("share", "0.1"), Pair("width", "8")));
}

TEST(OptionReader, RefusesOtherOptionsByName) {
  OptionReader reader("toy", {{"length", "64"}, {"lenght", "64"}});
  reader.integer("length", 32, 1, 100);
  reader.integer("width", 32, 1, 100);
  EXPECT_EQ(error_of([&] { reader.finish(); }),
            "toy: unknown option 'lenght', expected one of length, width");
}

TEST(OptionReader, RefusesValuesOutOfRange) {
  for (const std::string value : {"0", "101", "-5", "", "x", "5x", "5.5", "99999999999999999999"}) {
    OptionReader reader("toy", {{"length", value}});
    EXPECT_EQ(error_of([&] { reader.integer("length", 32, 1, 100); }),
              "toy: length is '" + value + "', expected an integer from 1 to 100");
  }
  for (const std::string value : {"nan", "1.5", "-0.1", "inf", "half", ""}) {
    OptionReader reader("toy", {{"rate", value}});
    EXPECT_EQ(error_of([&] { reader.number("rate", 0.5, 0, 1); }),
              "toy: rate is '" + value + "', expected a number from 0 to 1");
  }
}

}  // namespace
}  // namespace yoso
