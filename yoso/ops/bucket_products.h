// What the kernels of bucket_attention_grad share: the two halves of a bucket, and where they lie.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/cuda/elements.h"
#include "yoso/ops/bucket_order.h"
#include "yoso/ops/sparse_buckets.h"

namespace yoso::cuda {

// Queries or keys. `factors` are multiplied with those of the other side, G . v; a term of the
// other side's gradient is that product times the `unit` row, scale * rows.
struct Half {
  ConstArray factors, rows, scale, codes;
  Rows side;
  Tiles tiles;  // of kWarps slots
  BucketOrder order;
  Array grad;
  void* parts;       // [query heads, hashes, rows][D]: what each bucket gives its rows, by slot
  float* sums;       // [heads of the side, rows][D]: over the hashes of earlier waves
  int64_t per_head;  // query heads that share a head of this side
};

// Buckets for outer products, by segment: blocks that run at the same time work on one or a few
// heads, whose rows the second-level cache holds.
struct LargeBuckets {
  uint32_t* counts;     // [segments]
  uint32_t* buckets;    // see Segment::large
  int64_t rows_of_one;  // a listed bucket has more than that, of queries and keys together
  uint32_t blocks;      // that share the buckets of a segment
};

struct Products {
  Half queries, keys;
  int64_t width, value_width;  // D, V
  int64_t staged_rows;         // on tensor cores: of a side, that a warp stages at once; else 0
  int64_t large_from;          // rows; see is_large
  bool by_visits;              // rows visit what they meet in sparse segments themselves
  LargeBuckets large;
  int64_t* crowded;            // others of sparse segments, on tensor cores: first their number
  float factor;                // T / 2M
  bool of_rows;                // gradients of the rows, through their scales
  bool first_wave, last_wave;  // over the hashes of these sequences and heads

  __device__ const Half& own(bool of_keys) const { return of_keys ? keys : queries; }
};

// Whether a bucket goes by outer products. On tensor cores: where a side has more rows than a
// block stages at once. Elsewhere: where that is less work, its number of queries and keys, in the
// harmonic mean, being above large_from.
__device__ inline bool is_large(const Products& p, int64_t queries, int64_t keys) {
  if (p.staged_rows > 0) return max(queries, keys) > p.staged_rows;
  return 2 * queries * keys > (queries + keys) * p.large_from;
}

// Where a warp or block works: a sequence of the wave, a query head and a hash.
struct Segment {
  int64_t sequence, head, hash;

  __device__ Segment(int64_t in_wave, int64_t query_head, int64_t of_hashes)
      : sequence(in_wave), head(query_head), hash(of_hashes) {}
  // The `index`-th of the wave's, by hash, then by query head.
  __device__ Segment(const Products& p, int64_t index) {
    const auto i = static_cast<uint32_t>(index);
    const auto hashes = static_cast<uint32_t>(p.queries.order.wave.hashes);
    const auto heads = static_cast<uint32_t>(p.queries.order.wave.heads);
    sequence = i / hashes / heads;
    head = i / hashes % heads;
    hash = i % hashes;
  }

  // Its runs of slots on one side: buckets, rows by slot, and where its parts begin.
  __device__ const uint32_t* begin(const Half& half) const {
    return half.order.begin_of(half.order.segment(sequence, head / half.per_head, hash));
  }
  // Whether rows of both halves visit what they meet: only crowded buckets are multiplied.
  __device__ bool is_visited(const Products& p) const {
    return visited(p, p.queries) >= 0 && visited(p, p.keys) >= 0;
  }
  // The most rows of a bucket of `half` that those of the other half visit themselves; -1: none.
  __device__ int visited(const Products& p, const Half& half) const {
    return p.by_visits && is_sparse(begin(half), half.order.buckets) ? kFew : -1;
  }
  __device__ const uint32_t* rows(const Half& half) const {
    return half.order.rows + half.order.base(sequence, head / half.per_head, hash);
  }
  // Among those of the wave.
  __device__ uint32_t number(const Products& p) const {
    const Wave& wave = p.queries.order.wave;
    return static_cast<uint32_t>((sequence * wave.heads + head) * wave.hashes + hash);
  }
  // Where its large buckets are listed: places go by the rows of the segments before it.
  __device__ uint32_t* large(const Products& p) const {
    const int64_t rows_before =
        p.queries.order.base(sequence, head, hash) + p.keys.order.base(sequence, head, hash);
    return p.large.buckets + rows_before / p.large.rows_of_one;
  }
  template <class Part>
  __device__ Part* parts(const Half& half, int64_t width) const {
    return static_cast<Part*>(half.parts) + half.order.base(sequence, head, hash) * width;
  }
};

// One head of one sequence of an array of a half: its row i begins at data + i * stride.
template <class T>
struct Matrix {
  const T* data;
  int64_t stride;

  __device__ Matrix(const ConstArray& a, const Half& half, const Segment& at)
      : data(nullptr), stride(a.row_stride) {
    const Sequence s =
        yoso::sequence(half.side, half.order.wave.first_sequence + at.sequence, a.rows);
    data = a.row<T>(s.batch, half.order.wave.first_head + at.head / half.per_head, s.begin);
  }
  __device__ float at(int64_t i, int64_t c) const { return widen(data[i * stride + c]); }
};

// The scales of one head of one sequence; 1 where there are none.
struct Scales {
  const float* data = nullptr;

  __device__ Scales(const Half& half, const Segment& at) {
    if (half.scale.data == nullptr) return;
    const Sequence s =
        yoso::sequence(half.side, half.order.wave.first_sequence + at.sequence, half.scale.cols);
    data = half.scale.row<float>(s.batch, half.order.wave.first_head + at.head / half.per_head, 0) +
           s.begin;
  }
  __device__ float at(int64_t i) const { return data ? data[i] : 1.0f; }
};

}  // namespace yoso::cuda
