// SPDX-License-Identifier: Apache-2.0
#include "yoso/text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "yoso/core/check.h"
#include "yoso/core/utf8.h"
#include "yoso/text/byte_letters.h"
#include "yoso/text/words.h"

namespace yoso {
namespace {

using Kind = TemplatePart::Kind;

const std::vector<TemplatePart> kFirstAlone = {{.kind = Kind::kFirst}};
const std::vector<TemplatePart> kFirstAndSecond = {{.kind = Kind::kFirst},
                                                   {.kind = Kind::kSecond, .type_id = 1}};

std::string bytes_of(const std::string& token) { return from_letters(token).value_or(token); }

void check_text(std::string_view text) {
  if (!is_utf8(text)) fail("text: is not UTF-8, expected UTF-8");
}

void cut(std::vector<int64_t>& ids, int64_t length, Truncation::Side side) {
  if (static_cast<int64_t>(ids.size()) <= length) return;
  if (side == Truncation::Side::kLeft) ids.erase(ids.begin(), ids.end() - length);
  ids.resize(static_cast<size_t>(length));
}

int64_t count_special(const std::vector<TemplatePart>& parts) {
  int64_t count = 0;
  for (const TemplatePart& part : parts) count += static_cast<int64_t>(part.ids.size());
  return count;
}

Encoding fill(const std::vector<TemplatePart>& parts, const std::vector<int64_t>& first,
              const std::vector<int64_t>& second) {
  Encoding encoding;
  for (const TemplatePart& part : parts) {
    const std::vector<int64_t>& ids = part.kind == Kind::kSpecial ? part.ids
                                      : part.kind == Kind::kFirst ? first
                                                                  : second;
    encoding.ids.insert(encoding.ids.end(), ids.begin(), ids.end());
    encoding.type_ids.resize(encoding.ids.size(), part.type_id);
    encoding.texts.resize(encoding.ids.size(), part.kind == Kind::kSpecial ? kNoText
                                               : part.kind == Kind::kFirst ? int8_t{0}
                                                                           : int8_t{1});
  }
  return encoding;
}

// The parts without special tokens.
std::vector<TemplatePart> bare(const std::vector<TemplatePart>& parts) {
  std::vector<TemplatePart> kept;
  std::ranges::copy_if(parts, std::back_inserter(kept),
                       [](const TemplatePart& part) { return part.kind != Kind::kSpecial; });
  return kept;
}

}  // namespace

Tokenizer::Tokenizer(TokenizerConfig config, const std::string& name)
    : byte_pairs_(std::move(config.byte_pairs), name),
      added_(std::move(config.added_tokens)),
      add_prefix_space_(config.add_prefix_space),
      cut_words_(config.cut_words),
      templates_(std::move(config.templates)),
      truncation_(config.truncation) {
  for (const auto& [token, id] : byte_pairs_.vocabulary()) {
    if (id < 0) fail(name, ": token \"", token, "\" has id ", id, ", expected 0 or more");
    if (!tokens_.emplace(id, Token{bytes_of(token)}).second)
      fail(name, ": token \"", token, "\" has id ", id, ", as another one has");
  }
  for (const AddedToken& token : added_) {
    if (token.text.empty()) fail(name, ": an added token is empty, expected a text");
    const auto known = byte_pairs_.vocabulary().find(token.text);
    if (known != byte_pairs_.vocabulary().end() ? known->second != token.id
                                                : tokens_.contains(token.id))
      fail(name, ": added token \"", token.text, "\" has id ", token.id, ", expected ",
           known != byte_pairs_.vocabulary().end() ? join(known->second, " as in the vocabulary")
                                                   : "one that no other token has");
    tokens_[token.id] = {bytes_of(token.text), token.special};
    begins_added_[static_cast<uint8_t>(token.text[0])] = true;
  }
  std::ranges::stable_sort(added_, std::ranges::greater(),
                           [](const AddedToken& token) { return token.text.size(); });
  for (const auto* parts : {&templates_.single, &templates_.pair})
    for (const TemplatePart& part : *parts)
      for (const int64_t id : part.ids)
        if (!tokens_.contains(id))
          fail(name, ": post_processor puts id ", id, ", expected one of a token");
  if (templates_.single.empty()) templates_.single = kFirstAlone;
  if (templates_.pair.empty()) templates_.pair = kFirstAndSecond;
}

const AddedToken* Tokenizer::added_at(std::string_view text, size_t position,
                                      bool normalized) const {
  if (!begins_added_[static_cast<uint8_t>(text[position])]) return nullptr;
  for (const AddedToken& token : added_)
    if (token.normalized == normalized && text.substr(position).starts_with(token.text))
      return &token;
  return nullptr;
}

// Cuts out the added tokens of one kind, first those that are not normalized.
void Tokenizer::append_added(std::string_view text, bool normalized,
                             std::vector<int64_t>& ids) const {
  const auto append_rest = [&](std::string_view rest) {
    if (rest.empty()) return;
    normalized ? append_words(rest, ids) : append_added(rest, /*normalized=*/true, ids);
  };
  size_t done = 0;
  for (size_t position = 0; position < text.size();) {
    const AddedToken* token = added_at(text, position, normalized);
    if (token == nullptr) {
      ++position;
      continue;
    }
    size_t begin = position;
    position += token->text.size();
    if (token->takes_left) begin -= spaces_at_end(text.substr(0, begin));
    if (done < begin) append_rest(text.substr(done, begin - done));
    ids.push_back(token->id);
    done = position;
    if (token->takes_right) done += spaces_at_begin(text.substr(position));
  }
  append_rest(text.substr(done));
}

void Tokenizer::append_words(std::string_view text, std::vector<int64_t>& ids) const {
  std::string prefixed;
  if (add_prefix_space_ && !text.starts_with(' ')) {
    prefixed = join(' ', text);
    text = prefixed;
  }
  if (!cut_words_) return byte_pairs_.encode(text, ids);
  for (Words words(text); !words.done();) byte_pairs_.encode(words.next(), ids);
}

std::vector<int64_t> Tokenizer::ids_of(std::string_view text) const {
  check_text(text);
  std::vector<int64_t> ids;
  append_added(text, /*normalized=*/false, ids);
  return ids;
}

void Tokenizer::truncate(std::vector<int64_t>& first, std::vector<int64_t>* second,
                         int64_t added) const {
  using Strategy = Truncation::Strategy;
  if (!truncation_) return;
  const int64_t room = truncation_->max_length - added;
  if (room < 0)
    fail("truncation: max_length is ", truncation_->max_length, ", expected at least the ", added,
         " special tokens");
  auto n1 = static_cast<int64_t>(first.size());
  auto n2 = second == nullptr ? 0 : static_cast<int64_t>(second->size());
  if (n1 + n2 <= room) return;
  if (truncation_->strategy == Strategy::kLongestFirst) {
    // The longer one gives all it can; two of one length end with equal shares.
    const int64_t shorter = std::min(n1, n2), half = room / 2;
    const int64_t less = 2 * shorter <= room ? shorter : half;
    (n1 <= n2 ? n1 : n2) = less;
    (n1 <= n2 ? n2 : n1) = room - less;
  } else {
    int64_t& cut_one = truncation_->strategy == Strategy::kOnlyFirst ? n1 : n2;
    const int64_t excess = n1 + n2 - room;
    if (cut_one <= excess)
      fail("truncation: the ", &cut_one == &n1 ? "first" : "second", " text has ", cut_one,
           " tokens, expected more than the ", excess, " that are too many");
    cut_one -= excess;
  }
  cut(first, n1, truncation_->side);
  if (second != nullptr) cut(*second, n2, truncation_->side);
}

Encoding Tokenizer::encode(std::string_view text, SpecialTokens special) const {
  std::vector<int64_t> ids = ids_of(text);
  const auto parts = special == SpecialTokens::kWith ? templates_.single : bare(templates_.single);
  truncate(ids, nullptr, count_special(parts));
  return fill(parts, ids, {});
}

Encoding Tokenizer::encode(std::string_view first, std::string_view second,
                           SpecialTokens special) const {
  std::vector<int64_t> first_ids = ids_of(first), second_ids = ids_of(second);
  const auto parts = special == SpecialTokens::kWith ? templates_.pair : bare(templates_.pair);
  truncate(first_ids, &second_ids, count_special(parts));
  return fill(parts, first_ids, second_ids);
}

std::string Tokenizer::decode(std::span<const int64_t> ids, SpecialTokens special) const {
  std::string text;
  for (const int64_t id : ids) {
    const auto token = tokens_.find(id);
    if (token == tokens_.end())
      fail("decode: id is ", id, ", expected one of the ", vocab_size(), " in the vocabulary");
    if (special == SpecialTokens::kWith || !token->second.special) text += token->second.bytes;
  }
  return text;
}

std::optional<int64_t> Tokenizer::id_of(std::string_view token) const {
  const auto added = std::ranges::find(added_, token, &AddedToken::text);
  if (added != added_.end()) return added->id;
  const auto known = byte_pairs_.vocabulary().find(std::string(token));
  if (known == byte_pairs_.vocabulary().end()) return {};
  return known->second;
}

std::string replace_invalid(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    size_t size = 1;
    while (size <= std::min<size_t>(4, bytes.size()) && !is_utf8(bytes.substr(0, size))) ++size;
    if (size > std::min<size_t>(4, bytes.size())) {
      text += "\ufffd";
      size = 1;
    } else {
      text += bytes.substr(0, size);
    }
    bytes.remove_prefix(size);
  }
  return text;
}

}  // namespace yoso
