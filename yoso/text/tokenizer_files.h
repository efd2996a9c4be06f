// Reads tokenizers from the files that Python's `tokenizers` and `transformers` write.
//
// What is read of tokenizer.json: model BPE without dropout, prefixes of subwords or byte fallback;
// no normalizer; pre_tokenizer and decoder ByteLevel; post_processor RobertaProcessing,
// BertProcessing, TemplateProcessing, ByteLevel, a sequence of these, or none; added tokens that
// are not single words. Everything else is refused by name. Padding is left to who makes batches.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "yoso/text/tokenizer.h"

namespace yoso {

// `text` is a whole tokenizer.json. Throws Error with `name`, what was got and expected.
Tokenizer parse_tokenizer(std::string_view text, const std::string& name);

// vocab.json {"token": id, ...} and merges.txt (a pair of tokens a line). RoBERTa's special tokens
// are added where the vocabulary has them, and put around texts where it has <s> and </s>; so is
// GPT-2's <|endoftext|>, which is put nowhere.
Tokenizer parse_vocabulary(std::string_view vocabulary, const std::string& vocabulary_name,
                           std::string_view merges, const std::string& merges_name);

// `path` is a tokenizer.json, or a folder with one, or else with vocab.json and merges.txt.
Tokenizer read_tokenizer(const std::string& path);

}  // namespace yoso
