// Byte-pair encoding: a word is cut into its bytes, and of all neighbouring pairs the one that the
// list of merges names first (of several, the leftmost) becomes one token, until none is named.
// n log n in the bytes of a word.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace yoso {

struct BytePairsConfig {
  // Tokens written in letters (byte_letters.h), with their ids.
  std::unordered_map<std::string, int32_t> vocabulary;
  std::vector<std::pair<std::string, std::string>> merges;  // the earlier, the sooner merged
  // What stands for a byte that the vocabulary lacks; empty: such bytes are left out.
  std::string unknown;
  bool fuse_unknown = false;   // one such token for a run of them
  bool ignore_merges = false;  // a word that is a token is that token, whatever the merges say
};

class BytePairs {
 public:
  // Throws Error with `name` when a merge or the unknown token is not in the vocabulary.
  BytePairs(BytePairsConfig config, const std::string& name);

  // Appends the ids of a word, which is any bytes.
  void encode(std::string_view word, std::vector<int64_t>& ids) const;

  const std::unordered_map<std::string, int32_t>& vocabulary() const { return config_.vocabulary; }

 private:
  struct Merge {
    int32_t rank, id;
  };

  BytePairsConfig config_;
  int32_t unknown_ = -1;
  std::array<int32_t, 256> byte_ids_;  // -1: not in the vocabulary
  std::unordered_map<uint64_t, Merge> merges_;
};

}  // namespace yoso
