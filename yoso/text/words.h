// Words of a text as GPT-2 and RoBERTa cut it, before byte pairs are merged. The first alternative
// that fits wins:
//
//   's|'t|'re|'ve|'m|'ll|'d | ?\p{L}+ | ?\p{N}+ | ?[^\s\p{L}\p{N}]+ | \s+(?!\S) | \s+
//
// Letters, numbers and spaces are those of Unicode 15.0 (utf8proc 2.8). Linear in the text.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace yoso {

enum class CharacterClass : uint8_t { kLetter, kNumber, kSpace, kOther };

// `character` is a Unicode scalar value. Spaces are the property White_Space; what Unicode 15.0
// does not assign is kOther.
CharacterClass class_of(char32_t character);

// Walks over the words, which together are the whole text:
//   for (Words words(text); !words.done();) use(words.next());
class Words {
 public:
  explicit Words(std::string_view text) : text_(text) {}  // well-formed UTF-8 (is_utf8)

  bool done() const { return position_ == text_.size(); }
  std::string_view next();

 private:
  size_t end_of_word() const;
  size_t end_of_spaces() const;

  std::string_view text_;
  size_t position_ = 0;
};

// The spaces at the end and at the beginning of `text`, in bytes.
size_t spaces_at_end(std::string_view text);
size_t spaces_at_begin(std::string_view text);

}  // namespace yoso
