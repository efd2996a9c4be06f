// Gradients of sampled attention on the GPU. Surrogate ones of short sequences and true ones, unless
// there are very many buckets, go pair by pair (collision_sums.h); others by buckets:
//
// Surrogate: a query's gradient is a sum over hashes of what its bucket gives it. Buckets are
// worked on one after another, each writes the rows of its own queries and keys in the order of the
// codes (bucket_order.h), and at the end every token adds up its rows: every sum is in an order
// that depends on the places in the sequence alone. Small buckets go pair by pair, large ones by
// outer products: O(N M D V) whatever the data. Where buckets are sparse, tokens visit the few
// tokens that they meet themselves, and only crowded buckets are worked on (sparse_buckets.h).
// True: every token visits the tokens that it met, at the first hash where they met.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numbers>

#include "yoso/cuda/elements.h"
#include "yoso/cuda/launch.h"
#include "yoso/cuda/stream.h"
#include "yoso/ops/bucket_attention_grad.h"
#include "yoso/ops/bucket_order.h"
#include "yoso/ops/bucket_pairs_mma.h"
#include "yoso/ops/bucket_products_mma.h"
#include "yoso/ops/bucket_products_wgmma.h"
#include "yoso/ops/collision_sums.h"
#include "yoso/ops/gpu_convert.h"
#include "yoso/ops/part_sums.h"

namespace yoso::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kMaxWidth = 256, kPerLane = kMaxWidth / kWarp;  // columns of a row in a lane

__device__ inline float sum_over_warp(float sum) {
  for (int step = kWarp / 2; step >= 1; step /= 2) sum += __shfl_xor_sync(kFullWarp, sum, step);
  return sum;
}

// A row in the registers of a warp: lane l holds columns l, l + 32, ...
template <class T>
__device__ inline void load_row(const Matrix<T>& m, int64_t i, int64_t width,
                                float (&x)[kPerLane]) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) {
    const int c = lane + k * kWarp;
    x[k] = c < width ? m.at(i, c) : 0.0f;
  }
}

__device__ inline float dot(const float (&x)[kPerLane], const float (&y)[kPerLane]) {
  float sum = 0;
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) sum += x[k] * y[k];
  return sum_over_warp(sum);
}

// Pair by pair: a warp a slot of one side.
template <class T>
__global__ void __launch_bounds__(kThreads) multiply_pairs(Products p, bool of_keys) {
  const Half &own = p.own(of_keys), &other = p.own(!of_keys);
  const int64_t hashes = own.order.wave.hashes;
  const int64_t heads = p.queries.order.wave.heads;
  const auto [sequence, tile] = own.tiles[blockIdx.x / hashes / heads];
  const Segment at{sequence - own.order.wave.first_sequence, blockIdx.x / hashes % heads,
                   blockIdx.x % hashes};
  const uint32_t* begin = at.begin(own);
  const int64_t slot = tile * kWarps + threadIdx.x / kWarp;
  if (slot >= begin[own.order.buckets] || at.is_visited(p)) return;
  int64_t low = 0, high = own.order.buckets;  // the bucket of the slot: begin[low] <= slot
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    begin[middle] <= slot ? void(low = middle) : void(high = middle);
  }
  const uint32_t* other_begin = at.begin(other);
  const int64_t first = other_begin[low], last = other_begin[low + 1];
  if (last - first <= at.visited(p, other)) return;
  if (is_large(p, begin[low + 1] - begin[low], last - first)) return;

  const Matrix<T> own_factors(own.factors, own, at), factors(other.factors, other, at),
      rows(other.rows, other, at);
  const Scales scales(other, at);
  const uint32_t* others = at.rows(other);
  float mine[kPerLane], theirs[kPerLane], sum[kPerLane] = {};
  load_row(own_factors, at.rows(own)[slot], p.value_width, mine);
  for (int64_t k = first; k < last; ++k) {
    const int64_t j = others[k];
    load_row(factors, j, p.value_width, theirs);
    const float weight = dot(mine, theirs) * scales.at(j);
    load_row(rows, j, p.width, theirs);
#pragma unroll
    for (int c = 0; c < kPerLane; ++c) sum[c] += weight * theirs[c];
  }
  float* part = at.parts<float>(own, p.width) + slot * p.width;
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) {
    const int c = threadIdx.x % kWarp + k * kWarp;
    if (c < p.width) part[c] = sum[k];
  }
}

// Appends the numbers of the lanes that `want` it, in any order.
template <class Count, class Number>
__device__ inline void append(Count* count, Number* list, bool want, Number number) {
  const unsigned wanting = __ballot_sync(kFullWarp, want);
  const int lane = threadIdx.x % kWarp, leader = __ffs(wanting) - 1;
  if (wanting == 0) return;
  Count first = 0;
  if (lane == leader) first = atomicAdd(count, static_cast<Count>(__popc(wanting)));
  first = __shfl_sync(kFullWarp, first, leader);
  if (want) list[first + __popc(wanting & ((1u << lane) - 1))] = number;
}

// Lists the buckets that are no matter of neighbours: large ones, and crowded ones of segments
// whose other rows visit each other. A block looks at kBucketsOfBlock of a segment.
constexpr int kBucketsOfBlock = 8 * kThreads;
__global__ void __launch_bounds__(kThreads) list_buckets(Products p) {
  const auto buckets = static_cast<uint32_t>(p.queries.order.buckets);
  const uint32_t blocks = (buckets + kBucketsOfBlock - 1) / kBucketsOfBlock,
                 segment = blockIdx.x / blocks;
  const Segment at(p, segment);
  const uint32_t *q = at.begin(p.queries), *k = at.begin(p.keys);
  if (q[buckets] == 0 && k[buckets] == 0) return;
  const bool by_mma = p.staged_rows > 0, visited = at.is_visited(p);
  const uint32_t first = blockIdx.x % blocks * kBucketsOfBlock,
                 last = min(first + kBucketsOfBlock, buckets);
  for (uint32_t from = first; from < last; from += kThreads) {
    const uint32_t bucket = from + threadIdx.x;
    bool large = false, crowded = false;
    if (bucket < last) {
      const uint32_t queries = q[bucket + 1] - q[bucket], keys = k[bucket + 1] - k[bucket];
      large = is_large(p, queries, keys);
      crowded = !large && max(queries, keys) > kFew && visited;
    }
    append(p.large.counts + segment, at.large(p), large || (crowded && !by_mma), bucket);
    append(reinterpret_cast<unsigned long long*>(p.crowded), p.crowded + 1, crowded && by_mma,
           int64_t{segment} * buckets + bucket);
  }
}

constexpr int kPanel = kWarp;  // columns of D at a time
constexpr int kChunk = 32;     // rows at a time

// Rows first .. first + count - 1 of `order` into shared memory, [kChunk][stride], zeros after
// them.
template <class T>
__device__ void stage(const Matrix<T>& m, const Scales* scales, const uint32_t* order,
                      int64_t first, int64_t count, int64_t from_column, int64_t columns,
                      int64_t stride, float* to) {
  for (int64_t i = threadIdx.x; i < kChunk * columns; i += kThreads) {
    const int64_t r = i / columns, c = i % columns;
    float x = 0;
    if (r < count) {
      const int64_t row = order[first + r];
      x = m.at(row, from_column + c) * (scales ? scales->at(row) : 1.0f);
    }
    to[r * stride + c] = x;
  }
}

// Outer products: a block takes large buckets of a segment, one side and kPanel columns at a time.
//   sum over the other side of factors x unit rows, [V][kPanel]; then own factors times that.
template <class T>
__global__ void __launch_bounds__(kThreads) multiply_outer(Products p) {
  extern __shared__ float shared[];
  float* factors_chunk = shared;                                   // [kChunk][V]
  float* rows_chunk = factors_chunk + kChunk * p.value_width;      // [kChunk][kPanel]
  float* outer = rows_chunk + kChunk * kPanel;                     // [V][kPanel + 1]
  constexpr int kStride = kPanel + 1, kRows = kMaxWidth / kWarps;  // of V in a thread
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t panels = ceil_div(p.width, int64_t{kPanel});
  const Segment at(p, blockIdx.x / p.large.blocks);
  const int64_t items = p.large.counts[at.number(p)] * 2 * panels;
  for (int64_t item = blockIdx.x % p.large.blocks; item < items; item += p.large.blocks) {
    const int64_t column = item % panels * kPanel;
    const bool of_keys = item / panels % 2;
    const Half &own = p.own(of_keys), &other = p.own(!of_keys);
    const int64_t bucket = at.large(p)[item / panels / 2];
    const int64_t columns = min(int64_t{kPanel}, p.width - column);
    const Matrix<T> factors(other.factors, other, at), rows(other.rows, other, at),
        own_factors(own.factors, own, at);
    const Scales scales(other, at);

    float sums[kRows] = {};
    const uint32_t* others = at.rows(other);
    const int64_t last = at.begin(other)[bucket + 1];
    for (int64_t first = at.begin(other)[bucket]; first < last; first += kChunk) {
      const int64_t count = min(int64_t{kChunk}, last - first);
      __syncthreads();
      stage(factors, nullptr, others, first, count, 0, p.value_width, p.value_width, factors_chunk);
      stage(rows, &scales, others, first, count, column, columns, kPanel, rows_chunk);
      __syncthreads();
      for (int r = 0; r < count; ++r) {
        const float x = lane < columns ? rows_chunk[r * kPanel + lane] : 0.0f;
#pragma unroll
        for (int k = 0; k < kRows; ++k) {
          const int v = warp + k * kWarps;
          if (v < p.value_width) sums[k] += factors_chunk[r * p.value_width + v] * x;
        }
      }
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      const int v = warp + k * kWarps;
      if (v < p.value_width) outer[v * kStride + lane] = sums[k];
    }

    const uint32_t* mine = at.rows(own);
    float* parts = at.parts<float>(own, p.width);
    const int64_t own_last = at.begin(own)[bucket + 1];
    for (int64_t first = at.begin(own)[bucket]; first < own_last; first += kChunk) {
      const int64_t count = min(int64_t{kChunk}, own_last - first);
      __syncthreads();
      stage(own_factors, nullptr, mine, first, count, 0, p.value_width, p.value_width,
            factors_chunk);
      __syncthreads();
      for (int64_t r = warp; r < count; r += kWarps) {
        float sum = 0;
        for (int64_t v = 0; v < p.value_width; ++v) {
          sum += factors_chunk[r * p.value_width + v] * outer[v * kStride + lane];
        }
        if (lane < columns) parts[(first + r) * p.width + column + lane] = sum;
      }
    }
  }
}

// dp/dx of the expected weight, with its floors (bucket_attention_grad.h).
__device__ inline float slope(float x, float code_bits) {
  x = fminf(fmaxf(x, -1.0f), 1.0f);
  constexpr float kFloor = static_cast<float>(kSlopeFloor), kPi = std::numbers::pi_v<float>;
  const float closeness = fmaxf(acosf(-x), sqrtf(kFloor)) / kPi;
  return code_bits * powf(closeness, code_bits - 1) /
         (kPi * sqrtf(fmaxf((1 - x) * (1 + x), kFloor)));
}

// The true gradient: a warp a token of one side. All hashes must be in the wave.
template <class T, class Out>
__global__ void __launch_bounds__(kThreads) visit_pairs(Products p, bool of_keys, float code_bits) {
  const Half &own = p.own(of_keys), &other = p.own(!of_keys);
  const int64_t heads = own.order.wave.heads, hashes = own.order.wave.hashes;
  const int64_t head = blockIdx.x % heads;
  const auto [all_sequence, tile] = own.tiles[blockIdx.x / heads];
  const Sequence sequence = yoso::sequence(own.side, all_sequence, own.grad.rows);
  const int64_t i = tile * kWarps + threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (i >= sequence.rows) return;
  float sum[1][kPerLane] = {};
  if (sequence.is_real(i)) {
    float my_row[kPerLane];
    for (int64_t member = 0; member < own.per_head; ++member) {
      Segment at{all_sequence - own.order.wave.first_sequence, head * own.per_head + member, 0};
      const Matrix<T> own_factors(own.factors, own, at), own_rows(own.rows, own, at),
          factors(other.factors, other, at), rows(other.rows, other, at);
      const Scales own_scales(own, at), scales(other, at);
      const bool wide = own.codes.dtype == DType::kUint16;
      // Code of row r of a half under hash m.
      const auto code_of = [&](const Half& half, int64_t m, int64_t r) -> int {
        const Sequence s = yoso::sequence(half.side, half.order.wave.first_sequence + at.sequence,
                                          half.codes.cols);
        const int64_t h = half.order.wave.first_head + at.head / half.per_head;
        return wide ? half.codes.row<uint16_t>(s.batch, h, m)[s.begin + r]
                    : half.codes.row<uint8_t>(s.batch, h, m)[s.begin + r];
      };
      float my_factors[kPerLane], theirs[kPerLane];
      load_row(own_factors, i, p.value_width, my_factors);
      load_row(own_rows, i, p.width, my_row);
      for (at.hash = 0; at.hash < hashes; ++at.hash) {
        const int code = code_of(own, at.hash, i);
        const int64_t last = at.begin(other)[code + 1];
        for (int64_t k = at.begin(other)[code]; k < last; ++k) {
          const int64_t j = at.rows(other)[k];
          bool met = false;
          for (int64_t m = lane; m < at.hash; m += kWarp) {
            met = met || code_of(own, m, i) == code_of(other, m, j);
          }
          if (__any_sync(kFullWarp, met)) continue;
          load_row(factors, j, p.value_width, theirs);
          const float product = dot(my_factors, theirs);
          load_row(rows, j, p.width, theirs);
          const float scale = scales.at(j);
          const float x = dot(my_row, theirs) * own_scales.at(i) * scale;
          const float weight = slope(x, code_bits) * product * scale;
#pragma unroll
          for (int c = 0; c < kPerLane; ++c) sum[0][c] += weight * theirs[c];
        }
      }
    }
    if (p.of_rows) {
      const Segment at{all_sequence - own.order.wave.first_sequence, head * own.per_head, 0};
      to_gradient_of_row(
          sum, Scales(own, at).at(i), [&](int, int k) { return my_row[k]; }, sum_over_warp);
    }
  }
  Out* grad =
      own.grad.row<Out>(sequence.batch, own.order.wave.first_head + head, sequence.begin + i);
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) {
    const int c = lane + k * kWarp;
    if (c < p.width) grad[c] = narrow<Out>(sum[0][k]);
  }
}

// Parts and orders of the buckets in flight stay below this, or below so much a row and head where
// that is more; beyond, sequences, heads and at last hashes go one after another. Between hashes the
// sums so far are written and read again: one head of one sequence may take more.
constexpr int64_t kBytesInFlight = int64_t{1} << 30, kBytesPerRow = 256;
constexpr int64_t kBytesOfOneHead = int64_t{5} << 28;
constexpr int64_t kOuterBlocks = 4096;  // at least, where there are segments
constexpr int kCrowdedBlocks = 4096;

template <class T>
class Run {
 public:
  Run(const BucketAttentionGrad& a, Stream& stream)
      : a_(a),
        stream_(stream),
        query_side_(a.query_rows, a.queries.batch, a.queries.rows, stream),
        key_side_(a.key_rows, a.keys.batch, a.keys.rows, stream),
        ratio_(a.keys.heads == 0 ? 1 : a.queries.heads / a.keys.heads) {
    p_.queries = {.factors = a.out_grad,
                  .rows = a.queries,
                  .scale = a.query_scale,
                  .codes = a.query_codes,
                  .side = query_side_.rows(),
                  .grad = a.query_grad,
                  .per_head = 1};
    p_.keys = {.factors = a.values,
               .rows = a.keys,
               .scale = a.key_scale,
               .codes = a.key_codes,
               .side = key_side_.rows(),
               .grad = a.key_grad,
               .per_head = ratio_};
    p_.of_rows = a.of_rows;
    p_.width = a.queries.cols;
    p_.value_width = a.values.cols;
    p_.factor = static_cast<float>(static_cast<double>(a.code_bits) / 2 /
                                   static_cast<double>(a.query_codes.rows));
    const bool aligned = is_aligned(a.queries) && is_aligned(a.keys) && is_aligned(a.values) &&
                         is_aligned(a.out_grad);
    if constexpr (!std::is_same_v<T, float>) {
      const bool one_width =
          p_.width == p_.value_width && (p_.width == 32 || p_.width == 64 || p_.width == 128);
      const auto in_reach = [](const ConstArray& x) {  // by 32 bits of bytes a row
        return x.row_stride >= 0 && x.row_stride <= UINT32_MAX / int64_t{sizeof(T)};
      };
      by_mma_ = surrogate() && aligned && one_width && a.code_bits <= kMmaBits &&
                in_reach(a.queries) && in_reach(a.keys) && in_reach(a.values) &&
                in_reach(a.out_grad);
    }
    p_.staged_rows = by_mma_ ? kStagedRows : 0;
    // Where both ways are the same work: at the harmonic mean of D and V.
    p_.large_from =
        std::max<int64_t>(2 * p_.width * p_.value_width / (p_.width + p_.value_width), 64);
    part_size_ = by_mma_ ? static_cast<int64_t>(sizeof(Part<T>)) : 4;
    lanes_ = 1;
    while (lanes_ < kWarp && lanes_ * part_vec() < p_.width) lanes_ *= 2;
    const int64_t sparse_rows = kSparse << a.code_bits;
    const bool can_be_sparse =
        std::min(query_side_.certain_rows(), key_side_.certain_rows()) <= sparse_rows;
    p_.by_visits = can_be_sparse && part_vec() > 1 && aligned && p_.width == p_.value_width &&
                   p_.width <= lanes_ * part_vec();
    for (Half* half : {&p_.queries, &p_.keys}) half->tiles = side_of(*half).tiles(kWarps);
    query_tiles_ = query_side_.tiles(kSumThreads / lanes_);
    key_tiles_ = key_side_.tiles(kSumThreads / lanes_);
  }

  void all() {
    const int64_t hashes = a_.query_codes.rows, rows = query_side_.longest() + key_side_.longest();
    // Bytes of one hash, of one sequence and one key head with its query heads.
    const int64_t hash_bytes = ratio_ * (rows * (8 + (surrogate() ? part_size_ * p_.width : 0)) +
                                         8 * (int64_t{2} << a_.code_bits));
    const int64_t all_rows = std::max(a_.queries.size() / std::max<int64_t>(1, a_.queries.cols),
                                      a_.keys.size() / std::max<int64_t>(1, a_.keys.cols));
    const int64_t in_flight = std::max(
        {kBytesInFlight, kBytesPerRow * all_rows, std::min(hashes * hash_bytes, kBytesOfOneHead)});
    const int64_t fit = std::max<int64_t>(1, in_flight / std::max<int64_t>(1, hash_bytes));
    int64_t hash_step = surrogate() ? ceil_div(hashes, ceil_div(hashes, fit)) : hashes;
    // Visits go by so many hashes: waves of whole ones leave the order of their sums.
    constexpr int64_t kWhole = Met::kHashes;
    if (p_.by_visits && hash_step < hashes && hash_step > kWhole) {
      hash_step = hash_step / kWhole * kWhole;
    }
    const int64_t groups = std::max<int64_t>(1, fit / hash_step);
    const int64_t head_step = std::max<int64_t>(1, std::min(groups, a_.keys.heads));
    const int64_t sequence_step = std::max<int64_t>(1, groups / head_step);
    for (int64_t s = 0; s < query_side_.sequences(); s += sequence_step) {
      for (int64_t h = 0; h < a_.keys.heads; h += head_step) {
        Stream::Scope scope(stream_);
        const Wave keys{.first_sequence = s,
                        .sequences = std::min(sequence_step, query_side_.sequences() - s),
                        .first_head = h,
                        .heads = std::min(head_step, a_.keys.heads - h)};
        if (hash_step < hashes) {
          p_.queries.sums = sums(query_side_, keys, keys.heads * ratio_);
          p_.keys.sums = sums(key_side_, keys, keys.heads);
        }
        for (int64_t m = 0; m < hashes; m += hash_step) {
          p_.first_wave = m == 0;
          p_.last_wave = m + hash_step >= hashes;
          Wave wave = keys;
          wave.first_hash = m;
          wave.hashes = std::min(hash_step, hashes - m);
          one(wave);
        }
      }
    }
  }

 private:
  bool surrogate() const { return a_.gradient == Gradient::kSurrogate; }
  // Numbers of the parts at a time.
  int64_t part_vec() const {
    const bool wide =
        p_.width % (16 / part_size_) == 0 && is_aligned(a_.query_grad) && is_aligned(a_.key_grad);
    return wide ? 16 / part_size_ : 1;
  }
  const GpuSide& side_of(const Half& half) const {
    return &half == &p_.keys ? key_side_ : query_side_;
  }

  float* sums(const GpuSide& side, const Wave& wave, int64_t heads) {
    return stream_.allocate<float>(heads * side.rows_of(wave.first_sequence, wave.sequences) *
                                   p_.width);
  }

  // One wave, given by its key heads.
  void one(const Wave& keys) {
    Stream::Scope scope(stream_);
    Wave queries = keys;
    queries.first_head *= ratio_;
    queries.heads *= ratio_;
    prepare(p_.queries, queries);
    prepare(p_.keys, keys);
    if (!surrogate()) {
      visit(p_.queries, false);
      visit(p_.keys, true);
      return;
    }
    // A large bucket has more than half of large_from queries and of keys, or more rows of a side
    // than a warp stages; a crowded one more than kFew rows of a side.
    const int64_t segments = queries.heads * queries.hashes;
    const int64_t all_rows = (p_.queries.order.wave_rows + p_.keys.order.wave_rows) * segments;
    p_.large.rows_of_one = by_mma_ ? kStagedRows : p_.by_visits ? kFew : p_.large_from / 2;
    p_.large.blocks =
        static_cast<uint32_t>(ceil_div(kOuterBlocks, std::max<int64_t>(1, queries.segments())));
    p_.large.counts = stream_.allocate<uint32_t>(queries.segments());
    p_.large.buckets = stream_.allocate<uint32_t>(all_rows / p_.large.rows_of_one);
    p_.crowded = stream_.allocate<int64_t>(1 + (p_.by_visits && by_mma_ ? all_rows / kFew : 0));
    throw_if_failed(kOp,
                    cudaMemsetAsync(p_.large.counts, 0, 4 * queries.segments(), stream_.handle()));
    throw_if_failed(kOp, cudaMemsetAsync(p_.crowded, 0, 8, stream_.handle()));
    const int64_t buckets = p_.queries.order.buckets;
    run(queries.segments() * ceil_div(buckets, int64_t{kBucketsOfBlock}), kThreads, 0, list_buckets,
        p_);
    if constexpr (!std::is_same_v<T, float>) {
      if (by_mma_) {
        if (p_.width == 32) multiply<32>(queries);
        if (p_.width == 64) multiply<64>(queries);
        if (p_.width == 128) multiply<128>(queries);
        sum<Part<T>>();
        return;
      }
    }
    if (!all_visited()) {
      run(p_.queries.tiles.total * segments, kThreads, 0, multiply_pairs<T>, p_, false);
      run(p_.keys.tiles.total * segments, kThreads, 0, multiply_pairs<T>, p_, true);
    }
    const int64_t shared = 4 * (kChunk * (p_.value_width + kPanel) + p_.value_width * (kPanel + 1));
    run(queries.segments() * p_.large.blocks, kThreads, shared, multiply_outer<T>, p_);
    sum<float>();
  }

  template <class... Params, class... Args>
  void run(int64_t blocks, int threads, int64_t shared, void (*kernel)(Params...),
           const Args&... args) {
    launch(kOp, stream_.handle(), blocks, threads, shared, kernel, args...);
  }

  // Whether that is so of one side in every sequence, as far as the host knows.
  bool all_visited(const GpuSide& side) const {
    return p_.by_visits && side.longest() <= kSparse * p_.queries.order.buckets;
  }
  bool all_visited() const { return all_visited(query_side_) && all_visited(key_side_); }

  template <int kWidth>
  void multiply(const Wave& queries) {
    constexpr int64_t kShared = kPairWarps * sizeof(PairMemory<T, kWidth>);
    if (!all_visited()) {
      run(queries.segments() * blocks_per_segment(p_.queries.order.buckets), kPairThreads, kShared,
          multiply_small<T, kWidth>, p_);
    }
    if (p_.by_visits) {
      run(kCrowdedBlocks, kPairThreads, kShared, multiply_crowded<T, kWidth>, p_);
    }
    const int64_t outer_blocks = queries.segments() * p_.large.blocks;
    if constexpr (std::is_same_v<T, BFloat16> && kWidth == LargeRing::kWidth) {
      if (has_wgmma()) {
        run(outer_blocks, LargeRing::kThreads, sizeof(LargeRing), multiply_large_by_wgmma<T>, p_);
        return;
      }
    }
    run(outer_blocks, kOuterThreads<kWidth>, sizeof(OuterMemory<T, kWidth>),
        multiply_large<T, kWidth>, p_);
  }

  template <class P>
  void sum() {
    PartSums sums{.lanes = lanes_};
    for (const bool of_keys : {false, true}) {
      const GpuSide& side = of_keys ? key_side_ : query_side_;
      const Wave& wave = (of_keys ? p_.keys : p_.queries).order.wave;
      const Tiles tiles =
          side.slice(of_keys ? key_tiles_ : query_tiles_, wave.first_sequence, wave.sequences);
      const int64_t blocks = tiles.total * wave.heads;
      sums.tiles[of_keys] = tiles;
      if (!all_visited(of_keys ? query_side_ : key_side_)) sums.blocks[of_keys] = blocks;
      if (!p_.by_visits) continue;
      auto* kernel = of_keys ? sum_visits<T, P, kVec<P>, true> : sum_visits<T, P, kVec<P>, false>;
      run(blocks, kSumThreads, kSumThreads / lanes_ * Met::kCapacity * 4, kernel, p_, tiles,
          lanes_);
    }
    const auto sum_all = [&]<bool kShared>() {
      auto* kernel =
          part_vec() == 1 ? sum_parts<T, P, 1, kShared> : sum_parts<T, P, kVec<P>, kShared>;
      run(sums.all_blocks(), kSumThreads, 0, kernel, p_, sums);
    };
    ratio_ == 1 ? sum_all.template operator()<false>() : sum_all.template operator()<true>();
  }

  void visit(const Half& own, bool of_keys) {
    with_gpu_type(kOp, of_keys ? "key_grad" : "query_grad", own.grad.dtype, [&]<class Out>() {
      run(own.tiles.total * own.order.wave.heads, kThreads, 0, visit_pairs<T, Out>, p_, of_keys,
          static_cast<float>(a_.code_bits));
    });
  }

  void prepare(Half& half, const Wave& wave) {
    const GpuSide& side = side_of(half);
    half.order = sort_by_code(kOp, half.codes, side, wave, a_.code_bits, surrogate(), stream_);
    half.tiles = side.slice(half.tiles, wave.first_sequence, wave.sequences);
    if (!surrogate()) return;
    half.parts = stream_.allocate<char>(half.order.wave_rows * wave.heads * half.per_head *
                                        wave.hashes * p_.width * part_size_);
  }

  static constexpr const char* kOp = BucketAttentionGrad::kName;

  const BucketAttentionGrad& a_;
  Stream& stream_;
  GpuSide query_side_, key_side_;
  Tiles query_tiles_, key_tiles_;  // of as many rows as a block of sum_parts takes
  int64_t ratio_;                  // query heads of a key head
  bool by_mma_ = false;
  int64_t part_size_;  // bytes of a number of the parts
  int lanes_;          // that sum_parts gives a row
  Products p_{};
};

template <class T>
void run_by_buckets(const BucketAttentionGrad& a, Stream& stream) {
  Run<T>(a, stream).all();
  if (a.value_grad.data) bucket_attention(a.of_values(), stream);
}

// Short sequences pair by pair, long ones by buckets.
template <class T>
void run_by_length(const BucketAttentionGrad& a, int64_t up_to, Stream& stream) {
  constexpr const char* kOp = BucketAttentionGrad::kName;
  const GpuSide query_side(a.query_rows, a.queries.batch, a.queries.rows, stream);
  const GpuSide key_side(a.key_rows, a.keys.batch, a.keys.rows, stream);
  const Lengths lengths(query_side, key_side, up_to);
  if (!lengths.some_short) return run_by_buckets<T>(a, stream);
  const PairSide queries = pair_side(kOp, query_side, a.queries, a.query_scale, a.out_grad, stream);
  const PairSide keys = pair_side(kOp, key_side, a.keys, a.key_scale, a.values, stream);
  if (lengths.some_long) {  // which also clears the rows of the others
    BucketAttentionGrad rest = a;
    rest.query_rows = rows_of_long(kOp, a.query_rows, queries, keys, up_to, stream);
    rest.key_rows = rows_of_long(kOp, a.key_rows, keys, queries, up_to, stream);
    Run<T>(rest, stream).all();
    if (a.value_grad.data) {
      rest.pairs_up_to = 0;
      bucket_attention(rest.of_values(), stream);
    }
  } else {
    clear_masked_rows(kOp, queries, a.query_grad, stream);
    clear_masked_rows(kOp, keys, a.key_grad, stream);
    if (a.value_grad.data) clear_masked_rows(kOp, keys, a.value_grad, stream);
  }
  // T/pi of the slope, or T/2 of the collisions' mean.
  const double factor =
      static_cast<double>(a.code_bits) / (a.gradient == Gradient::kTrue
                                              ? std::numbers::pi
                                              : 2 * static_cast<double>(a.query_codes.rows));
  CollisionSums of_query{.fixed = queries,
                         .moving = keys,
                         .fixed_codes = a.query_codes,
                         .moving_codes = a.key_codes,
                         .up_to = up_to,
                         .code_bits = a.code_bits,
                         .factor = static_cast<float>(factor),
                         .gradient = a.gradient,
                         .of_rows = a.of_rows,
                         .out = a.query_grad};
  CollisionSums of_key = of_query;
  std::swap(of_key.fixed, of_key.moving);
  std::swap(of_key.fixed_codes, of_key.moving_codes);
  of_key.out = a.key_grad;
  of_key.values_out = a.value_grad;
  of_key.value_factor = 1.0f / static_cast<float>(a.query_codes.rows);
  sum_collisions(kOp, Sum::kRows, of_query, query_side, key_side, stream);
  sum_collisions(kOp, a.value_grad.data ? Sum::kBoth : Sum::kRows, of_key, key_side, query_side,
                 stream);
}

}  // namespace

void bucket_attention_grad(const BucketAttentionGrad& a, Stream& stream) {
  a.check(Offsets::kAnywhere);
  constexpr const char* kOp = BucketAttentionGrad::kName;
  with_gpu_type(kOp, "queries", a.queries.dtype, [&]<class T>() {
    Stream::Scope scope(stream);
    check_offsets_on_gpu(kOp, a.query_rows, a.queries.rows, a.key_rows, a.keys.rows, stream);
    clear_rows_after(kOp, a.query_rows, a.query_grad, stream);
    clear_rows_after(kOp, a.key_rows, a.key_grad, stream);
    if (a.value_grad.data) clear_rows_after(kOp, a.key_rows, a.value_grad, stream);
    BucketAttentionGrad alike = a;
    const bool is_true = a.gradient == Gradient::kTrue;
    const bool rounds = a.out_grad.dtype != a.queries.dtype;
    // By itself where G is rounded for the others, and where its kernel is another one.
    if (is_true || rounds) {
      if (a.value_grad.data) bucket_attention(a.of_values(), stream);
      alike.value_grad = {};
    }
    if (rounds) alike.out_grad = converted<T>(kOp, "out_grad", a.out_grad, stream);
    if constexpr (sizeof(T) == 2) {
      const int64_t hashes = a.query_codes.rows;
      const int64_t up_to = a.pairs_up_to.value_or(is_true ? true_pairs_up_to(hashes, a.code_bits)
                                                           : pairs_up_to(hashes));
      if (up_to > 0 && a.keys.heads > 0 &&
          counts_collisions(Sum::kRows, a.query_codes, a.code_bits,
                            std::max(a.keys.cols, a.values.cols))) {
        return run_by_length<T>(alike, up_to, stream);
      }
    }
    run_by_buckets<T>(alike, stream);
  });
}

}  // namespace yoso::cuda
