// SPDX-License-Identifier: Apache-2.0
#include "yoso/text/words.h"

#include <utf8proc.h>

#include <array>

namespace yoso {
namespace {

CharacterClass look_up(char32_t character) {
  if ((character >= 0x09 && character <= 0x0d) || character == 0x85) return CharacterClass::kSpace;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(character))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CharacterClass::kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CharacterClass::kNumber;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return CharacterClass::kSpace;
    default:
      return CharacterClass::kOther;
  }
}

struct Character {
  CharacterClass kind;
  size_t size;  // bytes
};

// The character at `position`, which is below text.size().
Character character_at(std::string_view text, size_t position) {
  static const auto kAscii = [] {
    std::array<CharacterClass, 128> classes;
    for (char32_t c = 0; c < 128; ++c) classes[c] = look_up(c);
    return classes;
  }();
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[position + i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return {kAscii[first], 1};
  const auto rest = [&](size_t i) { return static_cast<char32_t>(byte(i) & 0x3f); };
  if (first < 0xe0) return {look_up((first & 0x1fu) << 6 | rest(1)), 2};
  if (first < 0xf0) return {look_up((first & 0x0fu) << 12 | rest(1) << 6 | rest(2)), 3};
  return {look_up((first & 0x07u) << 18 | rest(1) << 12 | rest(2) << 6 | rest(3)), 4};
}

size_t end_of_run(std::string_view text, size_t position, CharacterClass kind) {
  while (position < text.size()) {
    const Character next = character_at(text, position);
    if (next.kind != kind) break;
    position += next.size;
  }
  return position;
}

// The length of 's, 't, 're, 've, 'm, 'll or 'd at the beginning of `text`, else 0.
size_t contraction(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  switch (text[1]) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return text.size() > 2 && text[2] == 'e' ? 3 : 0;
    case 'l':
      return text.size() > 2 && text[2] == 'l' ? 3 : 0;
    default:
      return 0;
  }
}

}  // namespace

CharacterClass class_of(char32_t character) { return look_up(character); }

std::string_view Words::next() {
  const size_t begin = position_;
  position_ = end_of_word();
  return text_.substr(begin, position_ - begin);
}

size_t Words::end_of_word() const {
  if (const size_t size = contraction(text_.substr(position_))) return position_ + size;
  size_t position = position_;
  Character first = character_at(text_, position);
  if (text_[position] == ' ' && position + 1 < text_.size()) {
    const Character second = character_at(text_, position + 1);
    if (second.kind != CharacterClass::kSpace) {
      ++position;
      first = second;
    }
  }
  if (first.kind == CharacterClass::kSpace) return end_of_spaces();
  return end_of_run(text_, position + first.size, first.kind);
}

// Of several spaces before a word, the last one belongs to that word or stands alone.
size_t Words::end_of_spaces() const {
  size_t position = position_, last = position_;
  while (position < text_.size()) {
    const Character next = character_at(text_, position);
    if (next.kind != CharacterClass::kSpace) return last > position_ ? last : position;
    last = position;
    position += next.size;
  }
  return position;
}

size_t spaces_at_begin(std::string_view text) {
  return end_of_run(text, 0, CharacterClass::kSpace);
}

size_t spaces_at_end(std::string_view text) {
  size_t begin = text.size();
  while (begin > 0) {
    size_t position = begin - 1;
    while ((static_cast<uint8_t>(text[position]) & 0xc0) == 0x80) --position;
    if (character_at(text, position).kind != CharacterClass::kSpace) break;
    begin = position;
  }
  return text.size() - begin;
}

}  // namespace yoso
