// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <vector>

#include "yoso/cpu/parallel.h"
#include "yoso/cpu/simd.h"
#include "yoso/ops/expected_attention.h"
#include "yoso/ops/real_rows.h"
#include "yoso/ops/tiles_cpu.h"

namespace yoso::cpu {
namespace {

// Blocks of queries that share every block of keys: packing keys, which misses the caches in a long
// sequence, costs a fourth then, and what an item reads stays in L2 (300 KB at a width of 64).
constexpr int64_t kQueryBlocks = 4;

// Real queries of one head, at most kQueryBlocks blocks.
struct Item {
  int64_t b, h, first, count;
};

// One thread's buffers: rows and columns as tiles_cpu.h wants them.
template <class Acc>
class Buffers {
 public:
  explicit Buffers(const ExpectedAttention& a)
      : width_(round_up(a.queries.cols, kTileColumns)),
        value_width_(round_up(a.values.cols, kTileColumns)),
        rows_(static_cast<size_t>(kTileBlock * width_)),
        query_columns_(static_cast<size_t>(kQueryBlocks * a.queries.cols * kTileBlock)),
        values_(static_cast<size_t>(kTileBlock * value_width_)),
        weights_(static_cast<size_t>(kTileBlock * kTileBlock)),
        out_(static_cast<size_t>(kQueryBlocks * kTileBlock * value_width_)) {}

  // Queries stand in columns, keys in rows: what is multiplied by a vector of queries is one number
  // of a key row, and rows need no transposition.
  void run(const ExpectedAttention& a, const Item& item, const RealRows& queries,
           const RealRows& keys) {
    const int64_t key_head = item.h / (a.queries.heads / a.keys.heads);
    for (int64_t block = 0; block * kTileBlock < item.count; ++block) {
      const int64_t num_queries = block_queries(item, block);
      pack_rows(a.queries, a.query_scale, item.h, queries, item.first + block * kTileBlock,
                num_queries, rows_.data(), width_);
      transpose(rows_.data(), width_, num_queries, a.queries.cols, query_columns(a, block),
                round_up(num_queries, kTileColumns));
    }
    std::fill(out_.begin(), out_.end(), Acc{0});
    for (int64_t first = 0; first < keys.count(); first += kTileBlock) {
      const int64_t num_keys = std::min(kTileBlock, keys.count() - first);
      pack_rows(a.keys, a.key_scale, key_head, keys, first, num_keys, rows_.data(), width_);
      pack_rows(a.values, {}, key_head, keys, first, num_keys, values_.data(), value_width_);
      for (int64_t block = 0; block * kTileBlock < item.count; ++block) {
        add_keys(a, block, block_queries(item, block), num_keys);
      }
    }
    unpack_rows(out_.data(), value_width_, queries, item.first, item.count, a.out, item.h);
  }

 private:
  static int64_t block_queries(const Item& item, int64_t block) {
    return std::min(kTileBlock, item.count - block * kTileBlock);
  }

  Acc* query_columns(const ExpectedAttention& a, int64_t block) {
    return query_columns_.data() + block * a.queries.cols * kTileBlock;
  }

  // out of a block of queries += its weights of the packed keys times their values.
  void add_keys(const ExpectedAttention& a, int64_t block, int64_t num_queries, int64_t num_keys) {
    const int64_t lanes = round_up(num_queries, kTileColumns);
    multiply(TileProduct<Acc>{.a = rows_.data(),
                              .a_row = width_,
                              .a_step = 1,
                              .b = query_columns(a, block),
                              .b_row = lanes,
                              .c = weights_.data(),
                              .c_row = lanes,
                              .rows = num_keys,
                              .columns = num_queries,
                              .steps = a.queries.cols,
                              .sum = Sum::kFresh});
    collide(weights_.data(), num_keys * lanes, a.code_bits);
    multiply(TileProduct<Acc>{.a = weights_.data(),
                              .a_row = 1,
                              .a_step = lanes,
                              .b = values_.data(),
                              .b_row = value_width_,
                              .c = out_.data() + block * kTileBlock * value_width_,
                              .c_row = value_width_,
                              .rows = num_queries,
                              .columns = a.values.cols,
                              .steps = num_keys,
                              .sum = Sum::kContinued});
  }

  int64_t width_, value_width_;  // of rows in buffers
  std::vector<Acc> rows_, query_columns_, values_, weights_, out_;
};

template <class Acc>
void run(const ExpectedAttention& a) {
  const auto queries = real_rows(a.query_rows, a.queries.batch, a.queries.rows);
  const auto keys = real_rows(a.key_rows, a.keys.batch, a.keys.rows);
  int64_t num_blocks = 0;
  for (const RealRows& rows : queries) {
    clear_masked_rows(rows, a.out);
    num_blocks += a.queries.heads * ((rows.count() + kTileBlock - 1) / kTileBlock);
  }
  // Fewer blocks an item where items would be too few to keep the threads equally busy.
  const int64_t step =
      kTileBlock * std::clamp<int64_t>(num_blocks / (8 * num_threads()), 1, kQueryBlocks);
  std::vector<Item> items;
  for (int64_t b = 0; b < static_cast<int64_t>(queries.size()); ++b) {
    for (int64_t h = 0; h < a.queries.heads; ++h) {
      for (int64_t first = 0; first < queries[b].count(); first += step) {
        items.push_back({b, h, first, std::min(step, queries[b].count() - first)});
      }
    }
  }
  std::vector<Buffers<Acc>> buffers(static_cast<size_t>(num_threads()), Buffers<Acc>(a));
  parallel_for(static_cast<int64_t>(items.size()), [&](int64_t index, int64_t worker) {
    const Item& item = items[index];
    buffers[worker].run(a, item, queries[item.b], keys[item.b]);
  });
}

}  // namespace

void expected_attention(const ExpectedAttention& a) {
  a.check();
  use_simd_level();
  a.queries.dtype == DType::kFloat64 ? run<double>(a) : run<float>(a);
}

}  // namespace yoso::cpu
