// SPDX-License-Identifier: Apache-2.0
#include "yoso/text/words.h"

#include <gmock/gmock.h>
#include <utf8proc.h>

#include <fstream>
#include <string>
#include <vector>

namespace yoso {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (Words walk(text); !walk.done();) words.emplace_back(walk.next());
  return words;
}

TEST(Words, OneSpaceBelongsToTheWordAfterIt) {
  EXPECT_THAT(words_of("one two"), ElementsAre("one", " two"));
  EXPECT_THAT(words_of(" one  two"), ElementsAre(" one", " ", " two"));
  EXPECT_THAT(words_of("one\n two"), ElementsAre("one", "\n", " two"));
  EXPECT_THAT(words_of("one\ttwo"), ElementsAre("one", "\t", "two"));
  EXPECT_THAT(words_of("one \n\n "), ElementsAre("one", " \n\n "));
}

TEST(Words, LettersNumbersAndTheRestAreApart) {
  EXPECT_THAT(words_of("ab12,;"), ElementsAre("ab", "12", ",;"));
  EXPECT_THAT(words_of("größe Ⅷ² я"), ElementsAre("größe", " Ⅷ²", " я"));
  // A combining mark is no letter.
  EXPECT_THAT(words_of("e\u0301t"), ElementsAre("e", "\u0301", "t"));
}

TEST(Words, EnglishContractionsAreWords) {
  EXPECT_THAT(words_of("it's we'll they're 'd"),
              ElementsAre("it", "'s", " we", "'ll", " they", "'re", " '", "d"));
  EXPECT_THAT(words_of("IT'S 'lx '"), ElementsAre("IT", "'", "S", " '", "lx", " '"));
  EXPECT_THAT(words_of("!'s"), ElementsAre("!'", "s"));
}

TEST(Words, NothingHasNoWords) { EXPECT_THAT(words_of(""), ElementsAre()); }

TEST(Words, SpacesAreThePropertyWhiteSpace) {
  std::vector<char32_t> spaces;
  for (char32_t c = 0; c < 0x110000; ++c)
    if (class_of(c) == CharacterClass::kSpace) spaces.push_back(c);
  EXPECT_THAT(spaces, ElementsAre(9, 10, 11, 12, 13, 0x20, 0x85, 0xa0, 0x1680, 0x2000, 0x2001,
                                  0x2002, 0x2003, 0x2004, 0x2005, 0x2006, 0x2007, 0x2008, 0x2009,
                                  0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000));
}

// testdata/classes.txt is by the package `tokenizers` (tests/references/tokenizers_cases.py).
TEST(Words, ClassesAreThoseOfThePackageButForCharactersThatAreNewer) {
  constexpr const char* kNames[] = {"letter", "number", "space", "other"};
  std::ifstream runs(YOSO_TESTDATA "/classes.txt");
  ASSERT_TRUE(runs);
  char32_t next_begin = 0;
  std::string kind, next_kind;
  uint32_t number = 0;
  int64_t newer = 0;
  const auto read_run = [&] {
    next_begin = runs >> std::hex >> number >> next_kind ? number : char32_t{0x110000};
  };
  read_run();
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c == next_begin) {
      kind = next_kind;
      read_run();
    }
    if (c >= 0xd800 && c < 0xe000) continue;
    if (kNames[static_cast<int>(class_of(c))] == kind) continue;
    ++newer;
    ASSERT_EQ(utf8proc_category(static_cast<utf8proc_int32_t>(c)), UTF8PROC_CATEGORY_CN)
        << std::hex << static_cast<uint32_t>(c) << " is " << kind;
  }
  EXPECT_LE(newer, 5004);  // none with a utf8proc of the package's version of Unicode
}

TEST(Words, SpacesAtTheEndsAreCountedInBytes) {
  EXPECT_EQ(spaces_at_end("a \u3000"), 4u);
  EXPECT_EQ(spaces_at_begin("\u3000 a"), 4u);
  EXPECT_EQ(spaces_at_end("aé"), 0u);
  EXPECT_EQ(spaces_at_end(" "), 1u);
  EXPECT_EQ(spaces_at_begin(""), 0u);
}

}  // namespace
}  // namespace yoso
