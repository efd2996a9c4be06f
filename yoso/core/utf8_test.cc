// SPDX-License-Identifier: Apache-2.0
#include "yoso/core/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace yoso {
namespace {

TEST(Utf8, TakesEveryCharacterAndNoSurrogate) {
  for (uint32_t code = 0; code < 0x110100; ++code) {
    const auto tail = [code](int shift) { return static_cast<char>(0x80 | (code >> shift & 63)); };
    const std::string text =
        code < 0x80    ? std::string{static_cast<char>(code)}
        : code < 0x800 ? std::string{static_cast<char>(0xc0 | code >> 6), tail(0)}
        : code < 0x10000
            ? std::string{static_cast<char>(0xe0 | code >> 12), tail(6), tail(0)}
            : std::string{static_cast<char>(0xf0 | code >> 18), tail(12), tail(6), tail(0)};
    const bool good = code < 0xd800 || (code >= 0xe000 && code < 0x110000);
    ASSERT_EQ(is_utf8("a" + text + "b"), good) << code;
    if (code < 0x80) continue;
    ASSERT_FALSE(is_utf8(text.substr(0, text.size() - 1))) << code;
    ASSERT_FALSE(is_utf8(text.substr(1))) << code;
  }
}

TEST(Utf8, RefusesLongForms) {
  for (const char* text : {"\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xff",
                           "\xf8\x88\x80\x80\x80", "\x80"})
    EXPECT_FALSE(is_utf8(text));
}

}  // namespace
}  // namespace yoso
