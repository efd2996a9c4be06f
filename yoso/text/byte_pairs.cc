// SPDX-License-Identifier: Apache-2.0
#include "yoso/text/byte_pairs.h"

#include <algorithm>

#include "yoso/core/check.h"
#include "yoso/text/byte_letters.h"

namespace yoso {
namespace {

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// A token of a word that is being merged, in a list linked by places.
struct Part {
  int32_t id;  // -1: has become part of the one before
  int32_t previous, next;
};
constexpr int32_t kNone = -1;

// The parts at `place` and after it may become the token `id`.
struct Candidate {
  int32_t rank, place, left, right, id;
};
// The order of a heap whose top is the lowest rank, of equal ones the leftmost.
constexpr auto kLater = [](const Candidate& a, const Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.place > b.place;
};

}  // namespace

BytePairs::BytePairs(BytePairsConfig config, const std::string& name) : config_(std::move(config)) {
  const auto id_of = [&](const std::string& token, const auto&... where) {
    const auto found = config_.vocabulary.find(token);
    if (found == config_.vocabulary.end())
      fail(name, ": ", where..., " \"", token, "\" is not in the vocabulary");
    return found->second;
  };
  merges_.reserve(config_.merges.size());
  for (size_t rank = 0; rank < config_.merges.size(); ++rank) {
    const auto& [left, right] = config_.merges[rank];
    const int32_t left_id = id_of(left, "merge ", rank, ": token");
    const int32_t right_id = id_of(right, "merge ", rank, ": token");
    merges_.insert_or_assign(
        pair_key(left_id, right_id),
        Merge{static_cast<int32_t>(rank), id_of(left + right, "merge ", rank, ": token")});
  }
  config_.merges = {};
  if (!config_.unknown.empty()) unknown_ = id_of(config_.unknown, "unk_token");
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = config_.vocabulary.find(to_letters(std::string(1, static_cast<char>(byte))));
    byte_ids_[static_cast<size_t>(byte)] = found == config_.vocabulary.end() ? -1 : found->second;
  }
}

void BytePairs::encode(std::string_view word, std::vector<int64_t>& ids) const {
  if (config_.ignore_merges) {
    const auto found = config_.vocabulary.find(to_letters(word));
    if (found != config_.vocabulary.end()) return ids.push_back(found->second);
  }
  std::vector<Part> parts;
  parts.reserve(word.size());
  bool after_unknown = false;
  for (const char byte : word) {
    int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
    const bool unknown = id < 0;
    if (unknown) id = config_.fuse_unknown && after_unknown ? -1 : unknown_;
    after_unknown = unknown;
    if (id < 0) continue;
    const auto place = static_cast<int32_t>(parts.size());
    parts.push_back({id, place - 1, place + 1});
  }
  if (parts.empty()) return;
  parts.back().next = kNone;

  std::vector<Candidate> heap;
  heap.reserve(parts.size());
  const auto consider = [&](int32_t place) {  // the part and the one after it
    const Part& part = parts[static_cast<size_t>(place)];
    if (part.next == kNone) return;
    const int32_t right = parts[static_cast<size_t>(part.next)].id;
    const auto merge = merges_.find(pair_key(part.id, right));
    if (merge == merges_.end()) return;
    heap.push_back({merge->second.rank, place, part.id, right, merge->second.id});
    std::push_heap(heap.begin(), heap.end(), kLater);
  };
  for (size_t place = 0; place < parts.size(); ++place) consider(static_cast<int32_t>(place));
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), kLater);
    const Candidate best = heap.back();
    heap.pop_back();
    Part& left = parts[static_cast<size_t>(best.place)];
    if (left.id != best.left || left.next == kNone) continue;  // merged meanwhile
    Part& right = parts[static_cast<size_t>(left.next)];
    if (right.id != best.right) continue;
    left.id = best.id;
    left.next = right.next;
    right.id = kNone;
    if (left.next != kNone) parts[static_cast<size_t>(left.next)].previous = best.place;
    if (left.previous != kNone) consider(left.previous);
    consider(best.place);
  }
  for (int32_t place = 0; place != kNone; place = parts[static_cast<size_t>(place)].next)
    ids.push_back(parts[static_cast<size_t>(place)].id);
}

}  // namespace yoso
