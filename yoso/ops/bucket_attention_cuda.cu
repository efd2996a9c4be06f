// Sampled attention on the GPU. Short sequences go pair by pair (collision_sums.h), others in three
// steps: the keys of every hash by bucket (bucket_order.h), a table of the buckets' sums, and for
// every query the mean of its buckets over the hashes. Where there are more buckets than keys to
// fill them, the table holds crowded buckets only, and queries add up the few keys of the others
// themselves; for codes of eight bits Hopper makes the tables from tiles in shared memory
// (tile_tables.h). Every sum is in an order that depends on the places in the sequence alone.
//
// Cost in bytes, mostly from L2: N M V for the sums and the same for the means.
// SPDX-License-Identifier: Apache-2.0
#include "yoso/cuda/bulk_copy.h"
#include "yoso/cuda/elements.h"
#include "yoso/cuda/launch.h"
#include "yoso/cuda/stream.h"
#include "yoso/ops/bucket_attention.h"
#include "yoso/ops/bucket_order.h"
#include "yoso/ops/collision_sums.h"
#include "yoso/ops/sparse_buckets.h"
#include "yoso/ops/tile_tables.h"

namespace yoso::cuda {
namespace {

constexpr int kThreads = 256;
// Slots that a block sums: any part of a sequence takes as long as any other.
constexpr int kSlotsPerBlock = 4096;

// Sums of a bucket, as tables hold them: rounded to the values' type only where that keeps range
// and the share of a hash is rounded once, as the result will be.
template <class T>
using Entry = std::conditional_t<std::is_same_v<T, BFloat16>, BFloat16, float>;

struct Sums {
  ConstArray values;
  Rows key_rows;
  Tiles tiles;  // of kSlotsPerBlock keys
  BucketOrder order;
  float share;     // of a hash: 1 / M
  void* tables;    // [sequences][heads][V / slice][hashes][buckets][slice] of Entry
  int slice;       // columns
  float* head;     // [blocks][V]: a block's part of a bucket that began before it,
  float* tail;     // and of the bucket that goes on after it
  bool by_tables;  // of all buckets, in sparse segments too
  int lanes;       // of a row, a power of two: a team
};

// Column c of the first bucket of a segment's table; the other buckets are `slice` apart.
template <class E>
__device__ inline E* column(const Sums& s, int64_t segment, int64_t c) {
  const int64_t hashes = s.order.wave.hashes, head = segment / hashes, hash = segment % hashes;
  const int64_t of_slice = head * (s.values.cols / s.slice) + c / s.slice;
  return static_cast<E*>(s.tables) + (of_slice * hashes + hash) * s.order.buckets * s.slice +
         c % s.slice;
}

// Lanes of a row of `width` numbers, kSize at a time.
template <int kSize>
int lanes_for(int64_t width) {
  int lanes = 1;
  while (lanes < kWarp && lanes * kSize < width) lanes *= 2;
  return lanes;
}

// The first bucket that begins at `slot` or later.
__device__ inline int first_from(const uint32_t* begin, int buckets, int slot) {
  int low = 0, high = buckets;
  while (low < high) {
    const int middle = (low + high) / 2;
    static_cast<int>(begin[middle]) >= slot ? void(high = middle) : void(low = middle + 1);
  }
  return low;
}

// Where a block works.
struct SumPlace {
  int64_t segment;
  int first, last, count;  // its slots, and those of the segment
  const uint32_t *begin, *rows;
  int64_t sequence, head;
};

__device__ inline SumPlace sum_place(const Sums& s) {
  const BucketOrder& order = s.order;
  const int64_t hash = blockIdx.x % order.wave.hashes;
  const int64_t head = blockIdx.x / order.wave.hashes % order.wave.heads;
  const auto [sequence, tile] = s.tiles[blockIdx.x / order.wave.hashes / order.wave.heads];
  const int64_t in_wave = sequence - order.wave.first_sequence;
  SumPlace at{.segment = order.segment(in_wave, head, hash), .sequence = sequence, .head = head};
  at.begin = order.begin_of(at.segment);
  at.rows = order.rows + order.base(in_wave, head, hash);
  at.count = static_cast<int>(at.begin[order.buckets]);
  at.first = static_cast<int>(tile * kSlotsPerBlock);
  at.last = min(at.first + kSlotsPerBlock, at.count);
  return at;
}

// Teams of lanes walk along as many slots each, and drop what they have summed whenever a bucket
// ends. A bucket belongs to where it begins, an empty one too; parts of it further on are joined by
// the team in which it begins, through shared memory, and by join_buckets beyond the block.
template <class T, int kSize>
__global__ void __launch_bounds__(kThreads, 4) sum_buckets(Sums s) {
  extern __shared__ float heads[];  // [teams][lanes * kSize]: parts of a bucket that began before
  const SumPlace at = sum_place(s);
  if (at.first > 0 && at.first >= at.count) return;
  if (!s.by_tables && is_sparse(at.begin, s.order.buckets)) return;
  const int width = static_cast<int>(s.values.cols);
  const int teams = kThreads / s.lanes, team = threadIdx.x / s.lanes;
  // Every team takes part, in a short sequence too.
  const int per_team = max(1, (at.last - at.first + teams - 1) / teams);
  const int first = min(at.first + team * per_team, at.last);
  const int last = min(first + per_team, at.last);
  const bool is_last = last == at.last && (first < last || at.count == 0) && last == at.count &&
                       (first < last || team == 0);
  const Sequence sequence = yoso::sequence(s.key_rows, at.sequence, s.values.rows);
  const T* values =
      s.values.row<T>(sequence.batch, s.order.wave.first_head + at.head, sequence.begin);
  const int stride = s.lanes * kSize;
  const int buckets = static_cast<int>(s.order.buckets);
  const int owned = first_from(at.begin, buckets, first);
  const auto begin = [&](int bucket) { return static_cast<int>(at.begin[bucket]); };
  const bool has_head = first < last && (owned == buckets || begin(owned) > first);

  for (int c0 = 0; c0 < width; c0 += stride) {
    const int c = c0 + threadIdx.x % s.lanes * kSize;
    const bool in_width = c < width;
    float sum[kSize] = {};
    auto* table = column<Entry<T>>(s, at.segment, c);
    const auto write = [&](int bucket, const float(&x)[kSize]) {
      if (!in_width) return;
      Vec<Entry<T>, kSize> entry;
#pragma unroll
      for (int k = 0; k < kSize; ++k) entry.at[k] = narrow<Entry<T>>(s.share * x[k]);
      entry.store(table + bucket * s.slice);
    };
    const auto keep = [&](float* to, const float(&x)[kSize]) {
#pragma unroll
      for (int k = 0; k < kSize; ++k) to[k] = x[k];
    };
    float* my_head = heads + team * stride + threadIdx.x % s.lanes * kSize;

    int bucket = has_head ? owned - 1 : owned;
    if (first < last || is_last) {
      // Empty buckets that begin here.
      const float zeros[kSize] = {};
      const auto skip_empty = [&](int slot) {
        while (bucket < buckets && begin(bucket + 1) == slot && (slot < last || is_last)) {
          write(bucket, zeros);
          ++bucket;
        }
      };
      if (!has_head) skip_empty(first);
      int end = bucket < buckets ? min(begin(bucket + 1), last) : last;
      bool in_head = has_head;
      constexpr int kAhead = 4;
      for (int slot = first; slot < last; slot += kAhead) {
        Vec<T, kSize> rows[kAhead];
#pragma unroll
        for (int k = 0; k < kAhead; ++k) {
          const uint32_t row = at.rows[min(slot + k, last - 1)];
          if (in_width) rows[k] = Vec<T, kSize>::load(values + row * s.values.row_stride + c);
        }
#pragma unroll
        for (int k = 0; k < kAhead; ++k) {
          if (slot + k < last) {
            add(sum, rows[k]);
            if (slot + k + 1 == end && begin(bucket + 1) <= last) {
              if (in_head) {
                keep(my_head, sum);
                in_head = false;
              } else {
                write(bucket, sum);
              }
              ++bucket;
#pragma unroll
              for (float& x : sum) x = 0;
              skip_empty(slot + k + 1);
              end = bucket < buckets ? min(begin(bucket + 1), last) : last;
            }
          }
        }
      }
      if (in_head) {  // nothing ended here: all of these slots are of a bucket that goes on
        keep(my_head, sum);
      }
    }
    __syncthreads();
    // `sum` is what this team has of its last bucket, which goes on after it.
    const bool goes_on =
        first < last && bucket < buckets && begin(bucket) < last && begin(bucket + 1) > last;
    if (goes_on && begin(bucket) >= first) {
      const int end = min(begin(bucket + 1), at.last);
      const int until = ceil_div(end - at.first, per_team);
      for (int other = team + 1; other < until; ++other) {
        const float* part = heads + other * stride + threadIdx.x % s.lanes * kSize;
#pragma unroll
        for (int k = 0; k < kSize; ++k) sum[k] += part[k];
      }
      if (begin(bucket + 1) <= at.last) {
        write(bucket, sum);
      } else if (in_width) {
        keep(s.tail + int64_t{blockIdx.x} * width + c, sum);
      }
    }
    if (team == 0 && has_head && in_width) {
      // The block's part of the bucket that began before it.
      const int end = min(begin(owned), at.last);
      const int until = ceil_div((owned == buckets ? at.last : end) - at.first, per_team);
      float part[kSize] = {};
      for (int other = 0; other < until; ++other) {
        const float* from = heads + other * stride + threadIdx.x % s.lanes * kSize;
#pragma unroll
        for (int k = 0; k < kSize; ++k) part[k] += from[k];
      }
      keep(s.head + int64_t{blockIdx.x} * width + c, part);
    }
    __syncthreads();
  }
}

constexpr int kTeamRows = 64;  // of a crowded bucket, that one team adds up

// The crowded buckets of sparse segments: a block looks at kBucketsOfBlock of a segment.
constexpr int kBucketsOfBlock = 8 * kThreads;
template <class T, int kSize>
__global__ void __launch_bounds__(kThreads) sum_crowded(Sums s) {
  extern __shared__ float parts[];  // [teams][lanes * kSize]
  __shared__ int crowded[kBucketsOfBlock], count;
  const BucketOrder& order = s.order;
  const auto blocks = static_cast<uint32_t>(ceil_div(order.buckets, int64_t{kBucketsOfBlock}));
  const int64_t segment = blockIdx.x / blocks;
  const uint32_t* begin = order.begin_of(segment);
  if (begin[order.buckets] == 0 || !is_sparse(begin, order.buckets)) return;
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  const int from = static_cast<int>(blockIdx.x % blocks) * kBucketsOfBlock;
  const int until = static_cast<int>(min(order.buckets, int64_t{from + kBucketsOfBlock}));
  for (int bucket = from + static_cast<int>(threadIdx.x); bucket < until; bucket += kThreads) {
    const bool is_crowded = begin[bucket + 1] - begin[bucket] > kFew;
    if (is_crowded) crowded[atomicAdd(&count, 1)] = bucket;  // in any order
  }
  __syncthreads();
  if (count == 0) return;

  const int64_t hash = segment % order.wave.hashes;
  const int64_t head = segment / order.wave.hashes % order.wave.heads;
  const int64_t in_wave = segment / order.wave.hashes / order.wave.heads;
  const Sequence sequence =
      yoso::sequence(s.key_rows, order.wave.first_sequence + in_wave, s.values.rows);
  const T* values = s.values.row<T>(sequence.batch, order.wave.first_head + head, sequence.begin);
  const uint32_t* rows = order.rows + order.base(in_wave, head, hash);
  const int width = static_cast<int>(s.values.cols), stride = s.lanes * kSize;
  const int teams = kThreads / s.lanes, team = threadIdx.x / s.lanes;
  Entry<T>* table = static_cast<Entry<T>*>(s.tables) + segment * order.buckets * width;
  for (int c0 = 0; c0 < width; c0 += stride) {
    const int c = c0 + threadIdx.x % s.lanes * kSize;
    const bool in_width = c < width;
    const auto add_rows = [&](uint32_t first, uint32_t last, float(&sum)[kSize]) {
      constexpr int kAhead = 4;
      for (uint32_t slot = first; in_width && slot < last; slot += kAhead) {
        Vec<T, kSize> ahead[kAhead];
#pragma unroll
        for (int k = 0; k < kAhead; ++k) {
          const int64_t row = rows[min(slot + k, last - 1)];
          ahead[k] = Vec<T, kSize>::load(values + row * s.values.row_stride + c);
        }
#pragma unroll
        for (int k = 0; k < kAhead; ++k) {
          if (slot + k < last) add(sum, ahead[k]);
        }
      }
    };
    const auto write = [&](int b, const float(&sum)[kSize]) {
      if (!in_width) return;
      Vec<Entry<T>, kSize> entry;
#pragma unroll
      for (int k = 0; k < kSize; ++k) entry.at[k] = narrow<Entry<T>>(s.share * sum[k]);
      entry.store(table + int64_t{b} * width + c);
    };
    for (int i = team; i < count; i += teams) {
      const int b = crowded[i];
      if (begin[b + 1] - begin[b] > kTeamRows) continue;
      float sum[kSize] = {};
      add_rows(begin[b], begin[b + 1], sum);
      write(b, sum);
    }
    for (int i = 0; i < count; ++i) {  // the others by all teams
      const int b = crowded[i];
      const uint32_t size = begin[b + 1] - begin[b];
      if (size <= kTeamRows) continue;
      const uint32_t share = (size + teams - 1) / teams;
      const uint32_t first = min(begin[b] + team * share, begin[b + 1]);
      float sum[kSize] = {};
      add_rows(first, min(first + share, begin[b + 1]), sum);
      float* part = parts + team * stride + threadIdx.x % s.lanes * kSize;
#pragma unroll
      for (int k = 0; k < kSize; ++k) part[k] = sum[k];
      __syncthreads();
      if (team == 0) {
        for (int other = 1; other < teams; ++other) {
#pragma unroll
          for (int k = 0; k < kSize; ++k) sum[k] += part[other * stride + k];
        }
        write(b, sum);
      }
      __syncthreads();
    }
  }
}

// Joins the parts of the buckets that go on after the block in which they begin: a warp for each.
template <class T>
__global__ void join_buckets(Sums s) {
  const SumPlace at = sum_place(s);
  const BucketOrder& order = s.order;
  const int64_t last = int64_t{at.first} + kSlotsPerBlock;
  if (last >= at.count || (!s.by_tables && is_sparse(at.begin, order.buckets))) return;
  const int b = first_from(at.begin, static_cast<int>(order.buckets), static_cast<int>(last)) -
                1;  // it holds slot last - 1
  if (at.begin[b] < static_cast<uint32_t>(at.first) || at.begin[b + 1] <= last) return;

  const int64_t blocks_apart = order.wave.hashes * order.wave.heads;  // of neighbouring tiles
  const int64_t parts = ceil_div(at.begin[b + 1] - last, int64_t{kSlotsPerBlock});
  for (int64_t c = threadIdx.x; c < s.values.cols; c += blockDim.x) {
    float sum = s.tail[blockIdx.x * s.values.cols + c];
#pragma unroll 8
    for (int64_t part = 1; part <= parts; ++part) {
      sum += s.head[(blockIdx.x + part * blocks_apart) * s.values.cols + c];
    }
    auto* table = column<Entry<T>>(s, at.segment, c);
    table[b * s.slice] = narrow<Entry<T>>(s.share * sum);
  }
}

struct Means {
  BucketAttention a;    // rows on the GPU
  Tiles tiles;          // of queries
  BucketOrder order;    // of the keys, with the wave
  int64_t query_heads;  // of the wave, from first_query_head
  int64_t first_query_head;
  int64_t keys_per_query;   // key heads that a query head meets
  int64_t queries_per_key;  // query heads that a key head meets
  int64_t buckets;
  const void* tables;
  float share;     // of a hash: 1 / M
  bool by_tables;  // all of them are whole, in sparse segments too
  int lanes;
};

// Where a team of lanes finds its query.
struct MeanPlace {
  Sequence sequence;
  int64_t in_wave, head, i;  // head: of the wave

  __device__ explicit MeanPlace(const Means& m) : head(blockIdx.x % m.query_heads) {
    const auto [all_sequence, tile] = m.tiles[blockIdx.x / m.query_heads];
    sequence = yoso::sequence(m.a.query_rows, all_sequence, m.a.out.rows);
    in_wave = all_sequence - m.order.wave.first_sequence;
    i = tile * m.tiles.rows_per_tile + threadIdx.x / m.lanes;
  }
  __device__ bool is_real() const { return sequence.is_real(i); }
  // The first of the m.keys_per_query key heads that it meets.
  __device__ int64_t first_key_head(const Means& m) const {
    return head / m.queries_per_key * m.keys_per_query;
  }
  __device__ bool is_sparse(const Means& m) const {
    return !m.by_tables && m.keys_per_query > 0 &&
           cuda::is_sparse(m.order.begin_of(m.order.segment(in_wave, first_key_head(m), 0)),
                           m.buckets);
  }
  template <int kSize>
  __device__ void write(const Means& m, int64_t c, const float (&sum)[kSize]) const {
    with_element(m.a.out.dtype, [&]<class Out>() {
      Vec<Out, kSize> result;
#pragma unroll
      for (int k = 0; k < kSize; ++k) result.at[k] = narrow<Out>(sum[k]);
      result.store(m.a.out.row<Out>(sequence.batch, m.first_query_head + head, sequence.begin + i) +
                   c);
    });
  }
};

// A team of lanes a query: the sum of its entries, which are shares already.
template <class E, int kSize, class Code>
__global__ void __launch_bounds__(kThreads) mean_over_hashes(Means m) {
  const MeanPlace at(m);
  if (at.i >= at.sequence.rows || at.is_sparse(m)) return;
  const uint32_t width = static_cast<uint32_t>(m.a.out.cols);
  const int64_t table_size = m.buckets * width, hashes = m.order.wave.hashes;
  const int64_t segment = m.order.segment(at.in_wave, at.first_key_head(m), 0);
  for (uint32_t c = threadIdx.x % m.lanes * kSize; c < width; c += m.lanes * kSize) {
    float sum[kSize] = {};
    const E* table = static_cast<const E*>(m.tables) + segment * table_size + c;
    for (int64_t other = 0; at.is_real() && other < m.keys_per_query; ++other) {
      const Code* code =
          m.a.query_codes.row<Code>(at.sequence.batch, m.first_query_head + at.head, 0) +
          at.sequence.begin + at.i;
#pragma unroll 8
      for (int hash = 0; hash < hashes; ++hash) {
        const auto v = Vec<E, kSize>::load(table + *code * width);
        add(sum, v);
        table += table_size;
        code += m.a.query_codes.row_stride;
      }
    }
    at.write(m, c, sum);
  }
}

// The same in sparse segments: the values of what the query meets, and the entries of crowded
// buckets alone.
template <class T, int kSize>
__global__ void __launch_bounds__(kThreads, 3) mean_over_visits(Means m) {
  extern __shared__ uint32_t lists[];  // [teams][Met::kCapacity]
  const MeanPlace at(m);
  if (at.i >= at.sequence.rows || !at.is_sparse(m)) return;
  const uint32_t width = static_cast<uint32_t>(m.a.out.cols);
  const int64_t table_size = m.buckets * width;
  const Wave& wave = m.order.wave;
  const int64_t all_sequence = wave.first_sequence + at.in_wave;
  const RowCodes codes(m.a.query_codes, at.sequence.batch, m.first_query_head + at.head, 0,
                       at.sequence.begin + at.i);
  for (uint32_t c0 = 0; c0 < width; c0 += m.lanes * kSize) {
    const uint32_t c = c0 + threadIdx.x % m.lanes * kSize;
    const bool in_width = c < width;
    float sum[kSize] = {}, visited[kSize] = {};
    for (int64_t other = 0; at.is_real() && other < m.keys_per_query; ++other) {
      const int64_t key_head = at.first_key_head(m) + other;
      const Entry<T>* table = static_cast<const Entry<T>*>(m.tables) +
                              m.order.segment(at.in_wave, key_head, 0) * table_size + c;
      const Sequence keys = yoso::sequence(m.a.key_rows, all_sequence, m.a.values.rows);
      const T* values = m.a.values.row<T>(keys.batch, wave.first_head + key_head, keys.begin) + c;
      for (int64_t hash = 0; hash < wave.hashes; hash += Met::kHashes) {
        const Met met = list_met(m.order, at.in_wave, key_head, codes, hash, m.lanes,
                                 lists + threadIdx.x / m.lanes * Met::kCapacity);
        if (!in_width) continue;
#pragma unroll 4
        for (int k = 0; k < met.rows; ++k) {
          const auto value = Vec<T, kSize>::load(values + met.row(k) * m.a.values.row_stride);
          add(visited, value);
        }
#pragma unroll 4
        for (int k = 0; k < met.crowded; ++k) {
          const int64_t crowded = met.hash(k);
          const auto entry =
              Vec<Entry<T>, kSize>::load(table + crowded * table_size + codes[crowded] * width);
          add(sum, entry);
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kSize; ++k) sum[k] += m.share * visited[k];
    if (in_width) at.write(m, c, sum);
  }
}

// The same from shared memory, for tables of bfloat16 that fit there: a block takes as many queries
// as its registers hold, and the tables of the hashes pass through a ring.
constexpr int kRingThreads = 512, kQueriesPerTeam = 8, kMaxStages = 4;  // and a warp that copies
constexpr int64_t kRingReserve = 4 * 1024;  // of shared memory, for all but the ring
constexpr int kSlice = kTableColumns;

// Bytes from slice to slice of a stage of the ring: a row further than they are long, so that the
// slices of an entry lie in different banks.
constexpr int64_t stage_slice_bytes(int64_t buckets) { return (buckets + 1) * kSlice * 2; }

template <int kWidth>
constexpr int kRingQueries = kRingThreads * 8 / kWidth* kQueriesPerTeam;  // of a block

template <int kWidth>
__global__ void __launch_bounds__(kRingThreads + kWarp, 1) mean_from_shared(Means m, int stages) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) unsigned char ring[];
  __shared__ CopyBarrier arrived[kMaxStages];
  constexpr int kLanes = kWidth / 8;
  const int64_t head = blockIdx.x % m.query_heads;
  const auto [all_sequence, tile] = m.tiles[blockIdx.x / m.query_heads];
  const Sequence sequence = yoso::sequence(m.a.query_rows, all_sequence, m.a.out.rows);
  const int64_t first = tile * kRingQueries<kWidth>;
  if (first >= sequence.rows) return;
  const int64_t query_head = m.first_query_head + head;
  const int hashes = static_cast<int>(m.order.wave.hashes);
  const int tables = hashes * static_cast<int>(m.keys_per_query);
  constexpr int kSlices = kWidth / kSlice;
  const auto apart = static_cast<uint32_t>(stage_slice_bytes(m.buckets)), bytes = kSlices * apart;
  const uint32_t slice_bytes = static_cast<uint32_t>(m.buckets) * kSlice * 2;
  const int64_t segment = m.order.segment(all_sequence - m.order.wave.first_sequence,
                                          head / m.queries_per_key * m.keys_per_query, 0);
  const unsigned char* table =
      static_cast<const unsigned char*>(m.tables) + segment * kSlices * slice_bytes;

  if (threadIdx.x == 0) {
    for (int s = 0; s < stages; ++s) arrived[s].make();
    publish_barriers();
  }
  __syncthreads();
  constexpr int kAll = kRingThreads + kWarp;
  if (threadIdx.x >= kRingThreads) {
    for (int index = 0; index < tables; ++index) {
      const int stage = index % stages;
      if (index >= stages) wait_for_all(1 + stage, kAll);
      if (threadIdx.x == kRingThreads) {
        arrived[stage].expect(kSlices * slice_bytes);
        // The table of slice s and hash m of a head is number s * hashes + m.
        const int64_t first = int64_t{index / hashes} * kSlices * hashes + index % hashes;
        for (int slice = 0; slice < kSlices; ++slice) {
          arrived[stage].copy(ring + stage * bytes + slice * apart,
                              table + (first + slice * hashes) * slice_bytes, slice_bytes);
        }
      }
    }
    return;
  }

  const int lane = threadIdx.x % kLanes;
  const int64_t query = first + threadIdx.x / kLanes * kQueriesPerTeam;
  const int64_t left = sequence.rows - query;  // queries from here on, perhaps none
  const uint8_t* codes =
      m.a.query_codes.row<uint8_t>(sequence.batch, query_head, 0) + sequence.begin + query;
  const bool whole = left >= kQueriesPerTeam &&
                     (reinterpret_cast<uintptr_t>(codes) | m.a.query_codes.row_stride) % 8 == 0;
  // The codes of this team's queries; those of masked queries may be anything.
  const uint64_t code_mask = 0x0101010101010101ull * static_cast<uint64_t>(m.buckets - 1);
  const auto load_codes = [&](int hash) {
    const uint8_t* from = codes + hash * m.a.query_codes.row_stride;
    uint64_t word = 0;
    if (whole) {
      word = *reinterpret_cast<const uint64_t*>(from);
    } else {
      for (int64_t q = 0; q < kQueriesPerTeam; ++q) {
        if (q < left) word |= uint64_t{from[q]} << (8 * q);
      }
    }
    return word & code_mask;
  };

  const uint32_t my_bytes = lane / (kSlice / 8) * apart + lane % (kSlice / 8) * 16;
  float sums[kQueriesPerTeam][8] = {};
  uint64_t next = load_codes(0);
  int stage = 0, next_hash = 0;
  uint32_t phase = 0;
  for (int index = 0; index < tables; ++index) {
    const uint64_t word = next;
    next_hash = next_hash + 1 < hashes ? next_hash + 1 : 0;
    next = load_codes(next_hash);  // of the first hash again after the last one
    const auto* entries = reinterpret_cast<const BFloat16*>(ring + stage * bytes + my_bytes);
    arrived[stage].wait(phase);
#pragma unroll
    for (int q = 0; q < kQueriesPerTeam; ++q) {
      const uint32_t code = static_cast<uint32_t>(word >> (8 * q)) & 0xff;
      const auto v = Vec<BFloat16, 8>::load(entries + code * kSlice);
      add(sums[q], v);
    }
    if (index + stages < tables) give(1 + stage, kAll);
    if (++stage == stages) {
      stage = 0;
      phase ^= 1;
    }
  }
  with_element(m.a.out.dtype, [&]<class Out>() {
#pragma unroll
    for (int q = 0; q < kQueriesPerTeam; ++q) {
      if (q >= left) break;
      const bool real = sequence.is_real(query + q);
      Vec<Out, 8> result;
#pragma unroll
      for (int k = 0; k < 8; ++k) result.at[k] = narrow<Out>(real ? sums[q][k] : 0.0f);
      result.store(m.a.out.row<Out>(sequence.batch, query_head, sequence.begin + query + q) +
                   lane * 8);
    }
  });
#endif
}

// Tables and orders of the groups in flight stay below this; beyond, groups go one after another.
constexpr int64_t kBytesInFlight = int64_t{1} << 30;

template <class T, int kSize>
void run(const BucketAttention& a, Stream& stream) {
  const char* op = BucketAttention::kName;
  constexpr int kEntries = kSize == 1 ? 1 : kVec<Entry<T>>;  // of a table, at a time
  const GpuSide query_side(a.query_rows, a.out.batch, a.out.rows, stream);
  const GpuSide key_side(a.key_rows, a.values.batch, a.values.rows, stream);
  const int64_t hashes = a.query_codes.rows, buckets = int64_t{1} << a.code_bits;
  const int64_t query_heads = a.out.heads, key_heads = a.values.heads;
  const int64_t units = std::min(query_heads, key_heads);
  Means means{.a = a,
              .keys_per_query = std::max<int64_t>(1, key_heads / query_heads),
              .queries_per_key = key_heads == 0 ? 1 : std::max<int64_t>(1, query_heads / key_heads),
              .buckets = buckets,
              .share = 1.0f / static_cast<float>(hashes),
              .lanes = lanes_for<kEntries>(a.values.cols)};
  means.a.query_rows = query_side.rows();
  means.a.key_rows = key_side.rows();
  if (key_heads == 0) means.keys_per_query = 0;
  Sums sums{.values = a.values,
            .key_rows = key_side.rows(),
            .share = means.share,
            .lanes = lanes_for<kSize>(a.values.cols)};
  // The ring wants wide loads, small tables and the copy engine.
  const int64_t stage_bytes = ceil_div(a.values.cols, int64_t{kSlice}) * stage_slice_bytes(buckets);
  const int stages = static_cast<int>(
      std::min<int64_t>(kMaxStages, (max_shared_bytes() - kRingReserve) / stage_bytes));
  const bool by_ring = std::is_same_v<T, BFloat16> && kSize > 1 && a.code_bits <= 8 &&
                       (a.values.cols == 32 || a.values.cols == 64 || a.values.cols == 128) &&
                       has_bulk_copy() && stages >= 2;
  const bool by_tiles = by_ring && a.code_bits == 8 && can_sum_by_tiles();
  const Tiles key_tiles = key_side.tiles(by_tiles ? kTableTileRows : kSlotsPerBlock);
  means.by_tables = sums.by_tables = by_ring;
  sums.slice = by_ring ? kSlice : static_cast<int>(a.values.cols);
  const int64_t ring_queries = kRingThreads * 8 / a.values.cols * kQueriesPerTeam;
  const Tiles query_tiles = query_side.tiles(by_ring ? ring_queries : kThreads / means.lanes);

  // Bytes of one sequence and one unit of heads: a key head with its query heads, or the reverse.
  const int64_t rows = key_side.longest();
  const int64_t order_bytes =
      by_tiles ? std::max<int64_t>(1, ceil_div(rows, int64_t{kTableTileRows})) * 4 * 1024
               : 4 * rows + 1028;
  const int64_t unit_bytes =
      means.keys_per_query * hashes *
      (buckets * a.values.cols * static_cast<int64_t>(sizeof(Entry<T>)) + order_bytes);
  const int64_t fit = std::max<int64_t>(1, kBytesInFlight / std::max<int64_t>(1, unit_bytes));
  const int64_t unit_step = std::max<int64_t>(1, std::min(units, fit));
  const int64_t sequence_step = std::max<int64_t>(1, fit / std::max<int64_t>(1, units));
  for (int64_t s = 0; s < query_side.sequences(); s += sequence_step) {
    for (int64_t u = 0; u < std::max<int64_t>(1, units); u += unit_step) {
      Stream::Scope scope(stream);
      Wave wave{.first_sequence = s,
                .sequences = std::min(sequence_step, query_side.sequences() - s),
                .hashes = hashes};
      const int64_t wave_units = std::min(unit_step, units - u);
      wave.first_head = u * means.keys_per_query;
      wave.heads = wave_units * means.keys_per_query;
      sums.tables = stream.allocate<Entry<T>>(wave.segments() * buckets * a.values.cols);
      sums.tiles = key_side.slice(key_tiles, s, wave.sequences);
      if (by_tiles) {
        sums.order = {.wave = wave, .buckets = buckets};
        sum_by_tiles(op, a.values, a.key_codes, key_side, sums.tiles, wave, sums.share,
                     static_cast<BFloat16*>(sums.tables), stream);
      } else {
        sums.order = sort_by_code(op, a.key_codes, key_side, wave, a.code_bits, false, stream);
        const int64_t blocks = sums.tiles.total * wave.heads * hashes;
        sums.head = stream.allocate<float>(blocks * a.values.cols);
        sums.tail = stream.allocate<float>(blocks * a.values.cols);
        if (!by_ring) {
          launch(op, stream.handle(), wave.segments() * ceil_div(buckets, int64_t{kBucketsOfBlock}),
                 kThreads, kThreads * kSize * 4, sum_crowded<T, kSize>, sums);
        }
        if (by_ring || rows > kSparse * buckets) {
          launch(op, stream.handle(), blocks, kThreads, kThreads * kSize * 4, sum_buckets<T, kSize>,
                 sums);
        }
        if (rows > kSlotsPerBlock) {
          launch(op, stream.handle(), blocks, kWarp, 0, join_buckets<T>, sums);
        }
      }

      means.order = sums.order;
      means.tables = sums.tables;
      means.tiles = query_side.slice(query_tiles, s, wave.sequences);
      means.first_query_head = u * means.queries_per_key;
      means.query_heads = key_heads == 0 ? query_heads : wave_units * means.queries_per_key;
      const int64_t queries = means.tiles.total * means.query_heads;
      if (by_ring) {
        auto* kernel = a.values.cols == 32   ? mean_from_shared<32>
                       : a.values.cols == 64 ? mean_from_shared<64>
                                             : mean_from_shared<128>;
        launch(op, stream.handle(), queries, kRingThreads + kWarp, stages * stage_bytes, kernel,
               means, stages);
        continue;
      }
      auto* over_hashes = a.code_bits <= 8 ? mean_over_hashes<Entry<T>, kEntries, uint8_t>
                                           : mean_over_hashes<Entry<T>, kEntries, uint16_t>;
      if (rows > kSparse * buckets || means.keys_per_query == 0) {
        launch(op, stream.handle(), queries, kThreads, 0, over_hashes, means);
      }
      launch(op, stream.handle(), queries, kThreads, kThreads / means.lanes * Met::kCapacity * 4,
             mean_over_visits<T, kEntries>, means);
    }
  }
}

template <class T>
void run_by_buckets(const BucketAttention& a, Stream& stream) {
  const bool aligned = a.values.cols % kVec<T> == 0 && is_aligned(a.values) && is_aligned(a.out);
  aligned ? run<T, kVec<T>>(a, stream) : run<T, 1>(a, stream);
}

// Short sequences pair by pair, long ones by buckets.
template <class T>
void run_by_length(const BucketAttention& a, int64_t up_to, Stream& stream) {
  constexpr const char* kOp = BucketAttention::kName;
  const GpuSide query_side(a.query_rows, a.out.batch, a.out.rows, stream);
  const GpuSide key_side(a.key_rows, a.values.batch, a.values.rows, stream);
  const Lengths lengths(query_side, key_side, up_to);
  if (!lengths.some_short) return run_by_buckets<T>(a, stream);
  const PairSide queries = pair_side(kOp, query_side, a.out, {}, {}, stream);
  const PairSide keys = pair_side(kOp, key_side, a.values, {}, a.values, stream);
  if (lengths.some_long) {  // which also clears the rows of the others
    BucketAttention rest = a;
    rest.query_rows = rows_of_long(kOp, a.query_rows, queries, keys, up_to, stream);
    rest.key_rows = rows_of_long(kOp, a.key_rows, keys, queries, up_to, stream);
    run_by_buckets<T>(rest, stream);
  } else {
    clear_masked_rows(kOp, queries, a.out, stream);
  }
  sum_collisions(kOp, Sum::kValues,
                 {.fixed = queries,
                  .moving = keys,
                  .fixed_codes = a.query_codes,
                  .moving_codes = a.key_codes,
                  .up_to = up_to,
                  .code_bits = a.code_bits,
                  .factor = 1.0f / static_cast<float>(a.query_codes.rows),
                  .out = a.out},
                 query_side, key_side, stream);
}

}  // namespace

void bucket_attention(const BucketAttention& a, Stream& stream) {
  a.check(Offsets::kAnywhere);
  with_gpu_type(BucketAttention::kName, "values", a.values.dtype, [&]<class T>() {
    if (a.out.size() == 0) return;
    const Stream::Scope scope(stream);
    check_offsets_on_gpu(BucketAttention::kName, a.query_rows, a.out.rows, a.key_rows,
                         a.values.rows, stream);
    clear_rows_after(BucketAttention::kName, a.query_rows, a.out, stream);
    if constexpr (sizeof(T) == 2) {
      const int64_t up_to = a.pairs_up_to.value_or(pairs_up_to(a.query_codes.rows));
      if (up_to > 0 && a.values.heads > 0 &&
          counts_collisions(Sum::kValues, a.query_codes, a.code_bits, a.values.cols)) {
        return run_by_length<T>(a, up_to, stream);
      }
    }
    run_by_buckets<T>(a, stream);
  });
}

}  // namespace yoso::cuda
