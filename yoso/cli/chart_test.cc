// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "yoso/cli/markup_testing.h"
#include "yoso/core/check.h"

namespace yoso {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Chart chart_of(std::vector<Series> series) {
  return {"Time", {"tokens", Scale::kLog2}, {"ms", Scale::kLog}, std::move(series)};
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(Chart, IsWellFormed) {
  const Series first{"sampled", {256, 512, 1024}, {1, 2, 4}};
  const Series second{"a <b> & \"c\" 'd'", {256, 512}, {3, 9}};
  const Chart linear{"Loss", {"step"}, {"loss"}, {first}};
  EXPECT_EQ(markup_fault(svg({chart_of({first, second}), linear, chart_of({})})), "");
  EXPECT_EQ(markup_fault(svg({})), "");
}

TEST(Chart, DrawsEveryPoint) {
  const std::string text =
      svg({chart_of({{"a", {256, 512, 1024}, {1, 2, 4}}, {"b", {256, 512}, {3, 9}}})});
  EXPECT_EQ(count(text, "<circle"), 5u);
  EXPECT_THAT(text, HasSubstr("a: 1,024, 4"));
}

TEST(Chart, LongSeriesAreLinesWithoutMarkers) {
  Series series{"loss", {}, {}};
  for (int i = 1; i <= 100; ++i) series.x.push_back(i), series.y.push_back(i);
  const std::string text = svg({chart_of({series})});
  EXPECT_EQ(count(text, "<circle"), 0u);
  const size_t begin = text.find("class=\"line s0 d0\" d=\"M", text.find("<g "));
  ASSERT_NE(begin, std::string::npos);
  EXPECT_EQ(count(text.substr(begin, text.find("/>", begin) - begin), "L"), 99u);
}

TEST(Chart, NaNInterruptsTheLine) {
  const std::string text =
      svg({chart_of({{"a", {256, 512, 1024, 2048, 4096}, {1, 2, kNaN, 4, 8}}})});
  EXPECT_EQ(count(text, "<circle"), 4u);
  const size_t begin = text.find(" d=\"", text.find("class=\"line s0 ", text.find("<g ")));
  const std::string path = text.substr(begin + 4, text.find('"', begin + 4) - begin - 4);
  EXPECT_EQ(count(path, "M"), 2u);
  EXPECT_EQ(count(path, "L"), 2u);
  EXPECT_THAT(text, Not(HasSubstr("nan")));
}

TEST(Chart, LeavesOutWhatALogarithmCannotShow) {
  const std::string text = svg({chart_of({{"a", {256, 512}, {0, 2}}, {"b", {256}, {-1}}})});
  EXPECT_EQ(count(text, "<circle"), 1u);
  EXPECT_THAT(text, Not(HasSubstr("inf")));
}

TEST(Chart, LeavesOutWhatIsNotFinite) {
  const double infinity = std::numeric_limits<double>::infinity();
  const Chart chart{"Loss", {"step"}, {"loss"}, {{"a", {1, 2, 3, 4}, {1, infinity, kNaN, 2}}}};
  const std::string text = svg({chart});
  EXPECT_EQ(count(text, "<circle"), 2u);
  EXPECT_THAT(text, Not(HasSubstr("inf")));
}

TEST(Chart, SaysThatThereIsNoData) {
  EXPECT_THAT(svg({chart_of({})}), HasSubstr("no data"));
  EXPECT_THAT(svg({chart_of({{"a", {}, {}}})}), HasSubstr("no data"));
  EXPECT_THAT(svg({chart_of({{"a", {1}, {kNaN}}})}), HasSubstr("no data"));
}

TEST(Chart, OneNameHasOneStyleInAllCharts) {
  const Series a{"a", {1, 2}, {1, 2}}, b{"b", {1, 2}, {2, 3}};
  const std::string text = svg({chart_of({a, b}), chart_of({b})});
  const std::string second = text.substr(text.rfind("<g "));
  EXPECT_THAT(second, HasSubstr("class=\"line s1 "));
  EXPECT_THAT(second, Not(HasSubstr("class=\"line s0 ")));
}

TEST(Chart, NamesBeyondTheColoursDifferInDashes) {
  Chart chart = chart_of({});
  for (int i = 0; i < 7; ++i) chart.series.push_back({std::to_string(i), {1, 2}, {1, 2}});
  const std::string text = svg({chart});
  EXPECT_THAT(text, HasSubstr("class=\"line s0 d0\""));
  EXPECT_THAT(text, HasSubstr("class=\"line s0 d1\""));
}

TEST(Chart, NarrowRangesHaveTicks) {
  const std::string text = svg({chart_of({{"a", {1e6}, {1.36}}, {"b", {1e6}, {1.48}}})});
  EXPECT_THAT(text, HasSubstr(">1.4</text>"));
  EXPECT_THAT(text, HasSubstr(">1,000,000</text>"));
}

TEST(Chart, RefusesUnequalLengths) {
  try {
    svg({chart_of({{"a", {1, 2}, {1}}})});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "chart: series 'a' has 1 y values, expected 2");
  }
}

TEST(Chart, ShortensLongLabelsBetweenCharacters) {
  const std::string name = "a_longer_name_of_\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9";
  EXPECT_THAT(svg({chart_of({{name, {1, 2}, {1, 2}}})}), HasSubstr(">a_longer_name_of_..<"));
}

TEST(FormatNumber, KeepsThreeDigitsOrAllIntegerOnes) {
  EXPECT_EQ(format_number(12345678.4), "12,345,678");
  EXPECT_EQ(format_number(-1234), "-1,234");
  EXPECT_EQ(format_number(999.9), "1,000");
  EXPECT_EQ(format_number(0.012345), "0.0123");
  EXPECT_EQ(format_number(0), "0");
  EXPECT_EQ(format_number(kNaN), "-");
}

TEST(EscapeMarkup, LeavesNoMarkup) {
  EXPECT_EQ(escape_markup("<script>a && \"b\" 'c'\x01"),
            "&lt;script&gt;a &amp;&amp; &quot;b&quot; &#39;c&#39;?");
}

}  // namespace
}  // namespace yoso
