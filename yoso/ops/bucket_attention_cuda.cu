// Sampled attention on the GPU in three steps: the keys of every hash by bucket (bucket_order.h), a
// table of the buckets' sums, and for every query the mean of its buckets over the hashes. No
// atomics, and every sum in an order that depends on the places in the sequence alone.
//
// Cost in bytes, mostly from L2: N M V for the sums and the same for the means.
// SPDX-License-Identifier: Apache-2.0
#include "yoso/cuda/elements.h"
#include "yoso/cuda/launch.h"
#include "yoso/cuda/stream.h"
#include "yoso/ops/bucket_attention.h"
#include "yoso/ops/bucket_order.h"

namespace yoso::cuda {
namespace {

constexpr int kThreads = 256;
// Slots that a warp sums: a bucket is longer in few places, and short enough to balance.
constexpr int kSlotsPerWarp = 512;
constexpr int kSlotsPerBlock = kSlotsPerWarp * kThreads / kWarp;

// Sums of a bucket, as tables hold them: rounded to the values' type only where that keeps range
// and the share of a hash is rounded once, as the result will be.
template <class T>
using Entry = std::conditional_t<std::is_same_v<T, BFloat16>, BFloat16, float>;

struct Sums {
  ConstArray values;
  Rows key_rows;
  Tiles tiles;  // of kSlotsPerBlock keys
  BucketOrder order;
  float share;      // of a hash: 1 / M
  void* tables;     // [segments][buckets][V] of Entry
  float* head;      // [segments' tiles][warps][V]: a warp's part of a bucket that began before it,
  float* tail;      // and of the bucket that goes on after it
  int lanes;        // of a row, a power of two
};

// Lanes of a row of `width` numbers, kSize at a time.
template <int kSize>
int lanes_for(int64_t width) {
  int lanes = 1;
  while (lanes < kWarp && lanes * kSize < width) lanes *= 2;
  return lanes;
}

// The sum over slots first .. last - 1 of kSize columns from c on, in every lane of a column.
template <class T, int kSize>
__device__ void sum_slots(const T* values, int64_t row_stride, const uint32_t* rows, int64_t first,
                          int64_t last, bool in_width, int lanes, float (&sum)[kSize]) {
#pragma unroll
  for (float& s : sum) s = 0;
  const int step = kWarp / lanes;
#pragma unroll 4
  for (int64_t slot = first + threadIdx.x % kWarp / lanes; slot < last; slot += step) {
    if (!in_width) continue;
    const auto v = Vec<T, kSize>::load(values + rows[slot] * row_stride);
#pragma unroll
    for (int k = 0; k < kSize; ++k) sum[k] += widen(v.at[k]);
  }
  for (int other = lanes; other < kWarp; other *= 2) {
#pragma unroll
    for (float& s : sum) s += __shfl_xor_sync(kFullWarp, s, other);
  }
}

// The first bucket that begins at `slot` or later.
__device__ inline int64_t first_from(const uint32_t* begin, int64_t buckets, int64_t slot) {
  int64_t low = 0, high = buckets;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    begin[middle] >= slot ? void(high = middle) : void(low = middle + 1);
  }
  return low;
}

// A warp's part: the buckets that begin in its slots, empty ones too, and the rest of the bucket
// that began before. What one warp does not see whole goes to `head` and `tail`.
template <class T, int kSize>
__global__ void __launch_bounds__(kThreads) sum_buckets(Sums s) {
  const BucketOrder& order = s.order;
  const int64_t hash = blockIdx.x % order.wave.hashes;
  const int64_t head = blockIdx.x / order.wave.hashes % order.wave.heads;
  const int64_t item = blockIdx.x / order.wave.hashes / order.wave.heads;
  const auto [all_sequence, tile] = s.tiles[item];
  const int64_t in_wave = all_sequence - order.wave.first_sequence;
  const int64_t segment = order.segment(in_wave, head, hash);
  const uint32_t* begin = order.begin_of(segment);
  const uint32_t* rows = order.rows + order.base(in_wave, head, hash);
  const int64_t count = begin[order.buckets];
  const int64_t first = tile * kSlotsPerBlock + int64_t{threadIdx.x} / kWarp * kSlotsPerWarp;
  if (first > 0 && first >= count) return;
  const int64_t last = min(first + kSlotsPerWarp, count);

  const Sequence sequence = yoso::sequence(s.key_rows, all_sequence, s.values.rows);
  const T* values =
      s.values.row<T>(sequence.batch, order.wave.first_head + head, sequence.begin);
  Entry<T>* table = static_cast<Entry<T>*>(s.tables) + segment * order.buckets * s.values.cols;
  const int64_t warp = int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
  const bool writes = threadIdx.x % kWarp < s.lanes;
  const int64_t owned = first_from(begin, order.buckets, first);
  for (int64_t c0 = 0; c0 < s.values.cols; c0 += int64_t{s.lanes} * kSize) {
    const int64_t c = c0 + threadIdx.x % s.lanes * kSize;
    const bool in_width = c < s.values.cols;
    const auto sum_of = [&](int64_t from, int64_t to, float(&sum)[kSize]) {
      sum_slots<T, kSize>(values + c, s.values.row_stride, rows, from, to, in_width, s.lanes, sum);
    };
    const auto keep = [&](float* parts, const float(&sum)[kSize]) {
      if (!writes || !in_width) return;
      for (int k = 0; k < kSize; ++k) parts[warp * s.values.cols + c + k] = sum[k];
    };
    float sum[kSize];
    const int64_t owned_from = owned < order.buckets ? int64_t{begin[owned]} : count;
    if (first < owned_from) {
      sum_of(first, min(owned_from, last), sum);
      keep(s.head, sum);
    }
    // Buckets that begin at `last` are the next warp's, unless there is none.
    for (int64_t b = owned; b < order.buckets; ++b) {
      const int64_t from = begin[b], to = begin[b + 1];
      if (from >= last && last < count) break;
      sum_of(from, min(to, last), sum);
      if (to > last) {
        keep(s.tail, sum);
      } else if (writes && in_width) {
        Vec<Entry<T>, kSize> entry;
#pragma unroll
        for (int k = 0; k < kSize; ++k) entry.at[k] = narrow<Entry<T>>(s.share * sum[k]);
        entry.store(table + b * s.values.cols + c);
      }
    }
  }
}

// Joins the parts of the buckets that go on after the warp in which they begin: a warp for each.
template <class T>
__global__ void __launch_bounds__(kThreads) join_buckets(Sums s) {
  const BucketOrder& order = s.order;
  const int64_t hash = blockIdx.x % order.wave.hashes;
  const int64_t head = blockIdx.x / order.wave.hashes % order.wave.heads;
  const auto [all_sequence, tile] = s.tiles[blockIdx.x / order.wave.hashes / order.wave.heads];
  const int64_t in_wave = all_sequence - order.wave.first_sequence;
  const int64_t segment = order.segment(in_wave, head, hash);
  const uint32_t* begin = order.begin_of(segment);
  const int64_t count = begin[order.buckets];
  const int64_t first = tile * kSlotsPerBlock + int64_t{threadIdx.x} / kWarp * kSlotsPerWarp;
  const int64_t last = first + kSlotsPerWarp;
  if (last >= count) return;
  const int64_t b = first_from(begin, order.buckets, last) - 1;  // holds slot last - 1 or is empty
  if (begin[b] < first || begin[b + 1] <= last) return;

  Entry<T>* entry =
      static_cast<Entry<T>*>(s.tables) + (segment * order.buckets + b) * s.values.cols;
  constexpr int kWarps = kThreads / kWarp;
  const int64_t blocks_apart = order.wave.hashes * order.wave.heads;  // of neighbouring tiles
  const int64_t warp = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  const int64_t parts = ceil_div(begin[b + 1] - last, int64_t{kSlotsPerWarp});
  for (int64_t c = threadIdx.x % kWarp; c < s.values.cols; c += kWarp) {
    float sum = s.tail[warp * s.values.cols + c];
#pragma unroll 8
    for (int64_t part = 1; part <= parts; ++part) {
      const int64_t w = warp % kWarps + part;
      const int64_t other = (blockIdx.x + w / kWarps * blocks_apart) * kWarps + w % kWarps;
      sum += s.head[other * s.values.cols + c];
    }
    entry[c] = narrow<Entry<T>>(s.share * sum);
  }
}

struct Means {
  BucketAttention a;  // rows on the GPU
  Tiles tiles;        // of queries
  Wave wave;          // key heads
  int64_t query_heads;      // of the wave, from first_query_head
  int64_t first_query_head;
  int64_t keys_per_query;   // key heads that a query head meets
  int64_t queries_per_key;  // query heads that a key head meets
  int64_t buckets;
  const void* tables;
  int lanes;
};

// Some lanes a query: the sum of its entries, which are shares already.
template <class E, int kSize, class Out>
__global__ void __launch_bounds__(kThreads) mean_over_hashes(Means m) {
  const int64_t head = blockIdx.x % m.query_heads;
  const auto [all_sequence, tile] = m.tiles[blockIdx.x / m.query_heads];
  const Sequence sequence = yoso::sequence(m.a.query_rows, all_sequence, m.a.out.rows);
  const int64_t i = tile * m.tiles.rows_per_tile + threadIdx.x / m.lanes;
  if (i >= sequence.rows) return;
  const int64_t query_head = m.first_query_head + head;
  const bool real = sequence.is_real(i);
  const int64_t width = m.a.out.cols;
  Out* out = m.a.out.row<Out>(sequence.batch, query_head, sequence.begin + i);
  const bool wide = m.a.query_codes.dtype == DType::kUint16;
  const uint8_t* codes = static_cast<const uint8_t*>(m.a.query_codes.data) +
                         (sequence.batch * m.a.query_codes.batch_stride +
                          query_head * m.a.query_codes.head_stride + sequence.begin + i) *
                             (wide ? 2 : 1);
  const int64_t code_stride = m.a.query_codes.row_stride * (wide ? 2 : 1);
  const int64_t key_head = head / m.queries_per_key * m.keys_per_query;
  const int64_t segment =
      ((all_sequence - m.wave.first_sequence) * m.wave.heads + key_head) * m.wave.hashes;
  const E* table = static_cast<const E*>(m.tables) + segment * m.buckets * width;
  for (int64_t c = threadIdx.x % m.lanes * kSize; c < width; c += m.lanes * kSize) {
    float sum[kSize] = {};
    if (real) {
      for (int64_t other = 0; other < m.keys_per_query; ++other) {
        const E* entries = table + other * m.wave.hashes * m.buckets * width + c;
#pragma unroll 8
        for (int64_t hash = 0; hash < m.wave.hashes; ++hash) {
          const uint8_t* from = codes + hash * code_stride;
          const int64_t code = wide ? *reinterpret_cast<const uint16_t*>(from) : *from;
          const auto v = Vec<E, kSize>::load(entries + (hash * m.buckets + code) * width);
#pragma unroll
          for (int k = 0; k < kSize; ++k) sum[k] += widen(v.at[k]);
        }
      }
    }
    Vec<Out, kSize> result;
#pragma unroll
    for (int k = 0; k < kSize; ++k) result.at[k] = narrow<Out>(sum[k]);
    if constexpr (kSize == 1) {
      out[c] = result.at[0];
    } else {
      result.store(out + c);
    }
  }
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
              .queries_per_key =
                  key_heads == 0 ? 1 : std::max<int64_t>(1, query_heads / key_heads),
              .buckets = buckets,
              .lanes = lanes_for<kEntries>(a.values.cols)};
  means.a.query_rows = query_side.rows();
  if (key_heads == 0) means.keys_per_query = 0;
  Sums sums{.values = a.values,
            .key_rows = key_side.rows(),
            .share = 1.0f / static_cast<float>(hashes),
            .lanes = lanes_for<kSize>(a.values.cols)};
  const Tiles key_tiles = key_side.tiles(kSlotsPerBlock);
  const Tiles query_tiles = query_side.tiles(kThreads / means.lanes);

  // Bytes of one sequence and one unit of heads: a key head with its query heads, or the reverse.
  const int64_t rows = key_side.longest();
  const int64_t unit_bytes =
      means.keys_per_query * hashes *
      (buckets * a.values.cols * static_cast<int64_t>(sizeof(Entry<T>)) + 4 * rows + 1028);
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
      sums.order = sort_by_code(op, a.key_codes, key_side, wave, a.code_bits, false, stream);
      sums.tiles = key_side.slice(key_tiles, s, wave.sequences);
      const int64_t blocks = sums.tiles.total * wave.heads * hashes;
      sums.tables = stream.allocate<Entry<T>>(wave.segments() * buckets * a.values.cols);
      sums.head = stream.allocate<float>(blocks * (kThreads / kWarp) * a.values.cols);
      sums.tail = stream.allocate<float>(blocks * (kThreads / kWarp) * a.values.cols);
      launch(op, stream.handle(), blocks, kThreads, 0, sum_buckets<T, kSize>, sums);
      if (rows > kSlotsPerWarp) {
        launch(op, stream.handle(), blocks, kThreads, 0, join_buckets<T>, sums);
      }

      means.wave = wave;
      means.tables = sums.tables;
      means.tiles = query_side.slice(query_tiles, s, wave.sequences);
      means.first_query_head = u * means.queries_per_key;
      means.query_heads =
          key_heads == 0 ? query_heads : wave_units * means.queries_per_key;
      with_gpu_type(op, "out", a.out.dtype, [&]<class Out>() {
        launch(op, stream.handle(), means.tiles.total * means.query_heads, kThreads, 0,
               mean_over_hashes<Entry<T>, kEntries, Out>, means);
      });
    }
  }
}

}  // namespace

void bucket_attention(const BucketAttention& a, Stream& stream) {
  a.check();
  with_gpu_type(BucketAttention::kName, "values", a.values.dtype, [&]<class T>() {
    if (a.out.size() == 0) return;
    const bool aligned =
        a.values.cols % kVec<T> == 0 && is_aligned(a.values) && is_aligned(a.out);
    aligned ? run<T, kVec<T>>(a, stream) : run<T, 1>(a, stream);
  });
}

}  // namespace yoso::cuda
