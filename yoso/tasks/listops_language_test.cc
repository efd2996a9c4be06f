// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/listops_language.h"

#include <gmock/gmock.h>

#include "yoso/core/testing.h"

namespace yoso::listops {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

int64_t value_of(std::string_view text) { return evaluate(parse(text)); }

TEST(ListOpsLanguage, ParsesTheNestedAndThePlainForm) {
  const auto symbols = ElementsAre(kMax, 4, kSm, 7, 8, kClose, 2, kClose);
  EXPECT_THAT(parse("( ( ( ( [MAX 4 ) ( ( ( [SM 7 ) 8 ) ] ) ) 2 ) ] )"), symbols);
  EXPECT_THAT(parse("[MAX 4 [SM 7 8] 2]"), symbols);
  EXPECT_THAT(parse("\t((([MAX(4)[SM\r7 8]2)]"), symbols);
  EXPECT_THAT(parse("7"), ElementsAre(7));
  EXPECT_THAT(parse(" "), ElementsAre());
}

TEST(ListOpsLanguage, EverySymbolHasItsPlace) {
  EXPECT_THAT(parse("0 1 2 3 4 5 6 7 8 9 ] [MAX [MED [MIN [SM"),
              ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14));
}

TEST(ListOpsLanguage, RefusesOtherWords) {
  const auto message = [](std::string_view text) { return error_of([&] { parse(text); }); };
  EXPECT_EQ(message("[MAX 4 12 ]"), "word is '12', expected a digit, [MAX, [MED, [MIN, [SM or ]");
  EXPECT_THAT(message("[max 4 ]"), HasSubstr("'[max'"));
  EXPECT_THAT(message("[MAX4 ]"), HasSubstr("'[MAX4'"));
  EXPECT_THAT(message("[MAX 4 X"), HasSubstr("'X'"));
  EXPECT_THAT(message(std::string_view("4\0", 2)), HasSubstr("'4\\x00'"));
  EXPECT_THAT(message("\x1f\x7f"), HasSubstr("'\\x1f\\x7f'"));
  EXPECT_THAT(message(std::string(1'000'000, '9')), HasSubstr("'" + std::string(40, '9') + "...'"));
}

TEST(ListOpsLanguage, EvaluatesEachOperator) {
  EXPECT_EQ(value_of("5"), 5);
  EXPECT_EQ(value_of("[MIN 4 2 9 ]"), 2);
  EXPECT_EQ(value_of("[MAX 4 2 9 ]"), 9);
  EXPECT_EQ(value_of("[SM 4 2 9 ]"), 5);
  EXPECT_EQ(value_of("[SM 0 0 ]"), 0);
  EXPECT_EQ(value_of("[MED 4 2 9 ]"), 4);
  EXPECT_EQ(value_of("[MED 9 1 1 ]"), 1);
  EXPECT_EQ(value_of("[MED 8 2 ]"), 5);
  EXPECT_EQ(value_of("[MED 1 2 ]"), 1);          // 1.5 is truncated
  EXPECT_EQ(value_of("[MED 9 0 8 7 ]"), 7);      // (7 + 8) / 2 is truncated
  EXPECT_EQ(value_of("[MED 3 3 9 9 9 3 ]"), 6);  // middle values 3 and 9
}

// By hand: [SM 6 2 ] = 8, [MIN 9 8 3 ] = 3 with it inside, [MED 7 3 1 1 ] = (1 + 3) / 2 = 2,
// [MAX 0 2 1 ] = 2, [SM 5 2 9 ] = 16 mod 10 = 6.
TEST(ListOpsLanguage, EvaluatesANestedExpression) {
  EXPECT_EQ(value_of("[SM 5 [MAX 0 [MED 7 [MIN 9 [SM 6 2 ] 3 ] 1 1 ] 1 ] 9 ]"), 6);
}

TEST(ListOpsLanguage, RefusesWhatIsNoWholeExpression) {
  const auto message = [](std::string_view text) { return error_of([&] { value_of(text); }); };
  EXPECT_THAT(message(""), HasSubstr("empty"));
  EXPECT_THAT(message("[MAX 1 [MIN 2 3 ]"), HasSubstr("ends before the ] of 1"));
  EXPECT_THAT(message("]"), HasSubstr("] without its operator"));
  EXPECT_THAT(message("[MAX ]"), HasSubstr("without arguments"));
  EXPECT_THAT(message("1 2"), HasSubstr("goes on after its end, at symbol 2"));
  EXPECT_THAT(message("[MAX 1 2 ] ]"), HasSubstr("goes on after its end, at symbol 5"));
}

TEST(ListOpsLanguage, WritesTheNestedForm) {
  EXPECT_EQ(nested_text(parse("7")), "7");
  EXPECT_EQ(nested_text(parse("[MAX 4 5 ]")), "( ( ( [MAX 4 ) 5 ) ] )");
  EXPECT_EQ(nested_text(parse("[MAX 4 [SM 7 8 ] 2 ]")),
            "( ( ( ( [MAX 4 ) ( ( ( [SM 7 ) 8 ) ] ) ) 2 ) ] )");
  EXPECT_EQ(nested_text(parse("[MIN [MED 1 2 ] 3 ]")),
            "( ( ( [MIN ( ( ( [MED 1 ) 2 ) ] ) ) 3 ) ] )");
}

}  // namespace
}  // namespace yoso::listops
