// Tokenizer: text to ids and back, byte-level BPE as GPT-2, RoBERTa and YOSO's checkpoints use it.
//
//   added tokens are cut out of the text | the rest falls into words (words.h) | words into byte
//   pairs (byte_pairs.h) | too many are cut off | special tokens are put around
//
// Ids are those of the package `tokenizers` of Python. Linear in the text but for words of
// thousands of bytes (n log n). A tokenizer does not change: threads may share one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "yoso/text/byte_pairs.h"

namespace yoso {

// A token that is found in the text as it stands, before words are.
struct AddedToken {
  std::string text;
  int32_t id = 0;
  bool special = false;      // decode leaves it out
  bool takes_left = false;   // spaces before it belong to it: <mask>
  bool takes_right = false;  // spaces after it
  bool normalized = false;   // is looked for in what the others leave
};

// What surrounds one text, or two: special tokens and the places of the texts.
struct TemplatePart {
  enum class Kind : uint8_t { kSpecial, kFirst, kSecond };
  Kind kind = Kind::kFirst;
  std::vector<int64_t> ids;  // of kSpecial
  int64_t type_id = 0;
};
struct Templates {
  std::vector<TemplatePart> single, pair;
};

struct Truncation {
  enum class Strategy : uint8_t { kLongestFirst, kOnlyFirst, kOnlySecond };
  enum class Side : uint8_t { kRight, kLeft };
  int64_t max_length = 0;  // of the whole, special tokens included
  Strategy strategy = Strategy::kLongestFirst;
  Side side = Side::kRight;  // where tokens are cut off
};

struct TokenizerConfig {
  BytePairsConfig byte_pairs;
  std::vector<AddedToken> added_tokens;
  bool add_prefix_space = false;  // a space before a text that begins with none
  bool cut_words = true;          // false: pairs are merged across words
  Templates templates;
  std::optional<Truncation> truncation;
};

struct Encoding {
  std::vector<int64_t> ids, type_ids;
  std::vector<int8_t> texts;  // where an id comes from: 0 the first text, 1 the second, kNoText
};
constexpr int8_t kNoText = -1;  // a special token around the texts

enum class SpecialTokens : uint8_t { kWith, kWithout };

class Tokenizer {
 public:
  // Throws Error with `name` and what does not fit together.
  Tokenizer(TokenizerConfig config, const std::string& name);

  // Throws Error when a text is not UTF-8, or cannot be cut to the truncation's length.
  Encoding encode(std::string_view text, SpecialTokens special = SpecialTokens::kWith) const;
  Encoding encode(std::string_view first, std::string_view second,
                  SpecialTokens special = SpecialTokens::kWith) const;
  // Any bytes: tokens may end within a character (replace_invalid makes text of them). Throws Error
  // on an id that is not in the vocabulary.
  std::string decode(std::span<const int64_t> ids,
                     SpecialTokens special = SpecialTokens::kWithout) const;

  std::optional<int64_t> id_of(std::string_view token) const;  // as the vocabulary writes it
  bool knows(int64_t id) const { return tokens_.contains(id); }
  int64_t vocab_size() const { return static_cast<int64_t>(tokens_.size()); }

  void set_truncation(std::optional<Truncation> truncation) { truncation_ = truncation; }

 private:
  struct Token {
    std::string bytes;
    bool special = false;
  };

  std::vector<int64_t> ids_of(std::string_view text) const;
  void append_added(std::string_view text, bool normalized, std::vector<int64_t>& ids) const;
  void append_words(std::string_view text, std::vector<int64_t>& ids) const;
  const AddedToken* added_at(std::string_view text, size_t position, bool normalized) const;
  void truncate(std::vector<int64_t>& first, std::vector<int64_t>* second, int64_t added) const;

  BytePairs byte_pairs_;
  std::vector<AddedToken> added_;              // longest first
  std::array<bool, 256> begins_added_{};       // by first byte
  std::unordered_map<int64_t, Token> tokens_;  // by id
  bool add_prefix_space_, cut_words_;
  Templates templates_;
  std::optional<Truncation> truncation_;
};

// `bytes` with U+FFFD in place of what is not UTF-8.
std::string replace_invalid(std::string_view bytes);

}  // namespace yoso
