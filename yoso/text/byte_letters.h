// Bytes as letters: byte-level tokenizers write every byte of a text as one printable character, so
// that a vocabulary is a list of words. Bytes that print (33-126, 161-172, 174-255) are their own
// code point, the other 68 are U+0100, U+0101, ... in ascending order: a space is U+0120.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace yoso {

constexpr std::array<char32_t, 256> byte_letters() {
  std::array<char32_t, 256> letters{};
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    letters[byte] = prints ? byte : next++;
  }
  return letters;
}

// The letters of `bytes` in UTF-8; every letter is below U+0144, so it has one or two bytes.
inline std::string to_letters(std::string_view bytes) {
  static constexpr std::array<char32_t, 256> kLetters = byte_letters();
  std::string text;
  for (const char byte : bytes) {
    const char32_t letter = kLetters[static_cast<uint8_t>(byte)];
    if (letter < 0x80) {
      text += static_cast<char>(letter);
    } else {
      text += static_cast<char>(0xc0 | (letter >> 6));
      text += static_cast<char>(0x80 | (letter & 0x3f));
    }
  }
  return text;
}

// The bytes that `letters` (UTF-8) stand for; nothing when a character of it is no byte's letter.
inline std::optional<std::string> from_letters(std::string_view letters) {
  static constexpr auto kBytes = [] {
    std::array<int16_t, 0x144> bytes{};
    bytes.fill(-1);
    for (int16_t byte = 0; byte < 256; ++byte) bytes[byte_letters()[byte]] = byte;
    return bytes;
  }();
  std::string bytes;
  for (size_t i = 0; i < letters.size(); ++i) {
    char32_t letter = static_cast<uint8_t>(letters[i]);
    if (letter >= 0x80) {
      if (letter > 0xdf || i + 1 == letters.size()) return {};
      letter = (letter & 0x1f) << 6 | (static_cast<uint8_t>(letters[++i]) & 0x3f);
    }
    if (letter >= kBytes.size() || kBytes[letter] < 0) return {};
    bytes += static_cast<char>(kBytes[letter]);
  }
  return bytes;
}

}  // namespace yoso
