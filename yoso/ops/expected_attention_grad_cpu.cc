// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <vector>

#include "yoso/cpu/parallel.h"
#include "yoso/cpu/simd.h"
#include "yoso/ops/expected_attention_grad.h"
#include "yoso/ops/real_rows.h"
#include "yoso/ops/tiles_cpu.h"

namespace yoso::cpu {
namespace {

// Which gradients an item sums: all from one pass over its pairs (5 products a tile), or those of
// one side (3 and 4 products), where a sequence is cut up for many threads. A row's sum adds up the
// same blocks of the other side in the same order either way, to the same bits.
enum class Wanted { kBoth, kQueryGrad, kKeyGrads };

// Real rows [first, last) of a side.
struct Range {
  int64_t first, last;
  int64_t count() const { return last - first; }
};

// Pairs of one sequence and key head.
struct Item {
  int64_t b, key_head;
  Range query_heads, queries, keys;
  Wanted wanted;
};

// Rows of a side in an item of a cut up sequence. A multiple of kTileBlock, so that blocks stay the
// same.
constexpr int64_t kPart = 2 * kTileBlock;

// A cut up sequence takes seven products a pair instead of five, so only one whose key heads are
// each more than 1 / (4 (threads - 1)) of all work is cut: the others even out.
std::vector<Item> make_items(const ExpectedAttentionGrad& a, const std::vector<RealRows>& queries,
                             const std::vector<RealRows>& keys) {
  int64_t all_pairs = 0;
  for (size_t b = 0; b < keys.size(); ++b) all_pairs += queries[b].count() * keys[b].count();
  std::vector<Item> items;
  for (int64_t b = 0; b < static_cast<int64_t>(keys.size()); ++b) {
    const int64_t num_queries = queries[b].count(), num_keys = keys[b].count();
    const bool cut = 4 * (num_threads() - 1) * num_queries * num_keys > all_pairs * a.keys.heads;
    const Range all_queries{0, num_queries}, all_keys{0, num_keys};
    for (int64_t g = 0; g < a.keys.heads; ++g) {
      const int64_t shared = a.queries.heads / a.keys.heads;
      const Range heads{g * shared, (g + 1) * shared};
      if (!cut) {
        items.push_back({b, g, heads, all_queries, all_keys, Wanted::kBoth});
        continue;
      }
      for (int64_t h = heads.first; h < heads.last; ++h) {
        for (int64_t i = 0; i < num_queries; i += kPart) {
          const Range part{i, std::min(i + kPart, num_queries)};
          items.push_back({b, g, {h, h + 1}, part, all_keys, Wanted::kQueryGrad});
        }
      }
      for (int64_t j = 0; j < num_keys; j += kPart) {
        const Range part{j, std::min(j + kPart, num_keys)};
        items.push_back({b, g, heads, all_queries, part, Wanted::kKeyGrads});
      }
    }
  }
  return items;
}

// One thread's buffers. Queries stand in the columns of tiles, keys in the rows.
template <class Acc>
class Buffers {
 public:
  explicit Buffers(const ExpectedAttentionGrad& a)
      : a_(a),
        width_(round_up(a.queries.cols, kTileColumns)),
        value_width_(round_up(a.values.cols, kTileColumns)),
        queries_(kTileBlock * width_),
        query_columns_(kTileBlock * width_),
        query_grad_(kTileBlock * width_),
        out_grad_(kTileBlock * value_width_),
        out_grad_columns_(kTileBlock * value_width_),
        weights_(kTileBlock * kTileBlock),
        slopes_(kTileBlock * kTileBlock) {}

  void run(const Item& item, const RealRows& queries, const RealRows& keys) {
    pack_keys(item, keys);
    for (int64_t h = item.query_heads.first; h < item.query_heads.last; ++h) {
      for (int64_t i = item.queries.first; i < item.queries.last; i += kTileBlock) {
        const int64_t num_queries = std::min(kTileBlock, item.queries.last - i);
        pack_queries(h, queries, i, num_queries);
        for (int64_t j = 0; j < item.keys.count(); j += kTileBlock) {
          add_tile(num_queries, j, std::min(kTileBlock, item.keys.count() - j), item.wanted);
        }
        if (item.wanted != Wanted::kKeyGrads) {
          unpack_rows(query_grad_.data(), width_, queries, i, num_queries, a_.query_grad, h);
        }
      }
    }
    if (item.wanted == Wanted::kQueryGrad) return;
    unpack_rows(key_grad_.data(), width_, keys, item.keys.first, item.keys.count(), a_.key_grad,
                item.key_head);
    unpack_rows(value_grad_.data(), value_width_, keys, item.keys.first, item.keys.count(),
                a_.value_grad, item.key_head);
  }

 private:
  void pack_keys(const Item& item, const RealRows& keys) {
    const int64_t rows = round_up(item.keys.count(), kTileRows);
    keys_.resize(rows * width_);
    values_.resize(rows * value_width_);
    pack_rows(a_.keys, a_.key_scale, item.key_head, keys, item.keys.first, item.keys.count(),
              keys_.data(), width_);
    pack_rows(a_.values, {}, item.key_head, keys, item.keys.first, item.keys.count(),
              values_.data(), value_width_);
    if (item.wanted == Wanted::kQueryGrad) return;
    key_grad_.assign(rows * width_, Acc{0});
    value_grad_.assign(rows * value_width_, Acc{0});
  }

  void pack_queries(int64_t h, const RealRows& queries, int64_t first, int64_t count) {
    const int64_t lanes = round_up(count, kTileColumns);
    pack_rows(a_.queries, a_.query_scale, h, queries, first, count, queries_.data(), width_);
    transpose(queries_.data(), width_, count, a_.queries.cols, query_columns_.data(), lanes);
    pack_rows(a_.out_grad, {}, h, queries, first, count, out_grad_.data(), value_width_);
    transpose(out_grad_.data(), value_width_, count, a_.values.cols, out_grad_columns_.data(),
              lanes);
    std::fill(query_grad_.begin(), query_grad_.end(), Acc{0});
  }

  // The packed queries with packed keys first to first + num_keys - 1.
  void add_tile(int64_t num_queries, int64_t first, int64_t num_keys, Wanted wanted) {
    const int64_t lanes = round_up(num_queries, kTileColumns);
    const int64_t width = a_.queries.cols, value_width = a_.values.cols;
    const Acc* keys = &keys_[first * width_];
    const Acc* values = &values_[first * value_width_];
    Acc* weights = weights_.data();  // [keys, queries]: q.k, then p
    Acc* slopes = slopes_.data();    // [keys, queries]: G.v, then s
    multiply(TileProduct<Acc>{keys, width_, 1, query_columns_.data(), lanes, weights, lanes,
                              num_keys, num_queries, width, Sum::kFresh});
    multiply(TileProduct<Acc>{values, value_width_, 1, out_grad_columns_.data(), lanes, slopes,
                              lanes, num_keys, num_queries, value_width, Sum::kFresh});
    collide(weights, slopes, num_keys * lanes, a_.code_bits, a_.gradient);
    if (wanted != Wanted::kKeyGrads) {
      multiply(TileProduct<Acc>{slopes, 1, lanes, keys, width_, query_grad_.data(), width_,
                                num_queries, width, num_keys, Sum::kContinued});
    }
    if (wanted != Wanted::kQueryGrad) {
      multiply(TileProduct<Acc>{slopes, lanes, 1, queries_.data(), width_,
                                &key_grad_[first * width_], width_, num_keys, width, num_queries,
                                Sum::kContinued});
      multiply(TileProduct<Acc>{weights, lanes, 1, out_grad_.data(), value_width_,
                                &value_grad_[first * value_width_], value_width_, num_keys,
                                value_width, num_queries, Sum::kContinued});
    }
  }

  const ExpectedAttentionGrad& a_;
  int64_t width_, value_width_;  // of rows in buffers
  std::vector<Acc> queries_, query_columns_, query_grad_, out_grad_, out_grad_columns_;  // a block
  std::vector<Acc> keys_, values_, key_grad_, value_grad_;  // all keys of an item
  std::vector<Acc> weights_, slopes_;                       // a tile
};

template <class Acc>
void run(const ExpectedAttentionGrad& a) {
  const auto queries = real_rows(a.query_rows, a.queries.batch, a.queries.rows);
  const auto keys = real_rows(a.key_rows, a.keys.batch, a.keys.rows);
  for (size_t b = 0; b < keys.size(); ++b) {
    clear_masked_rows(queries[b], a.query_grad);
    clear_masked_rows(keys[b], a.key_grad);
    clear_masked_rows(keys[b], a.value_grad);
  }
  const std::vector<Item> items = make_items(a, queries, keys);
  std::vector<Buffers<Acc>> buffers(num_threads(), Buffers<Acc>(a));
  parallel_for(static_cast<int64_t>(items.size()), [&](int64_t index, int64_t worker) {
    const Item& item = items[index];
    buffers[worker].run(item, queries[item.b], keys[item.b]);
  });
}

}  // namespace

void expected_attention_grad(const ExpectedAttentionGrad& a) {
  a.check();
  use_simd_level();
  a.queries.dtype == DType::kFloat64 ? run<double>(a) : run<float>(a);
}

}  // namespace yoso::cpu
