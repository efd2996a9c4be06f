// Gradients of sampled attention on the GPU.
//
// Surrogate: a query's gradient is a sum over hashes of what its bucket gives it. Buckets are
// worked on one after another, each writes the rows of its own queries and keys in the order of the
// codes (bucket_order.h), and at the end every token adds up its rows: no atomics, every sum in an
// order that depends on the places in the sequence alone. Small buckets go pair by pair, large ones
// by outer products: O(N M D V) whatever the data. True: every token visits the tokens that it met,
// at the first hash where they met. SPDX-License-Identifier: Apache-2.0
#include <numbers>

#include "yoso/cuda/elements.h"
#include "yoso/cuda/launch.h"
#include "yoso/cuda/stream.h"
#include "yoso/ops/bucket_attention_grad.h"
#include "yoso/ops/bucket_order.h"
#include "yoso/ops/gpu_convert.h"

namespace yoso::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kMaxWidth = 256, kPerLane = kMaxWidth / kWarp;  // columns of a row in a lane

// Queries or keys. `factors` are multiplied with those of the other side, G . v; a term of the
// other side's gradient is that product times the `unit` row, scale * rows.
struct Half {
  ConstArray factors, rows, scale, codes;
  Rows side;
  Tiles tiles;  // of kWarps slots
  BucketOrder order;
  Array grad;
  float* parts;      // [query heads, hashes, rows][D]: what each bucket gives its rows, by slot
  float* sums;       // [query heads of the side's, rows][D]: over the hashes of earlier waves
  int64_t per_head;  // query heads that share a head of this side
};

struct Products {
  Half queries, keys;
  int64_t width, value_width;  // D, V
  int64_t query_heads;         // of the wave
  int64_t* large;              // buckets for outer products, [1 + capacity]: first their number
  float factor;                // T / 2M
  bool first_wave, last_wave;  // over the hashes of these sequences and heads

  __device__ const Half& own(bool of_keys) const { return of_keys ? keys : queries; }
};

// By outer products where that is less work than pair by pair, and worth a block.
__device__ inline bool is_large(const Products& p, int64_t queries, int64_t keys) {
  const int64_t sum = p.width + p.value_width;
  return queries * keys * sum > (queries + keys) * max(p.width * p.value_width, kWarp * sum);
}

// Where a warp or block works: a sequence of the wave, a query head and a hash.
struct Segment {
  int64_t sequence, head, hash;

  // Its runs of slots on one side: buckets, rows by slot, and where its parts begin.
  __device__ const uint32_t* begin(const Half& half) const {
    return half.order.begin_of(half.order.segment(sequence, head / half.per_head, hash));
  }
  __device__ const uint32_t* rows(const Half& half) const {
    return half.order.rows + half.order.base(sequence, head / half.per_head, hash);
  }
  __device__ float* parts(const Half& half, int64_t width) const {
    return half.parts + half.order.base(sequence, head, hash) * width;
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
  const auto [sequence, tile] = own.tiles[blockIdx.x / hashes / p.query_heads];
  const Segment at{sequence - own.order.wave.first_sequence, blockIdx.x / hashes % p.query_heads,
                   blockIdx.x % hashes};
  const uint32_t* begin = at.begin(own);
  const int64_t slot = tile * kWarps + threadIdx.x / kWarp;
  if (slot >= begin[own.order.buckets]) return;
  int64_t low = 0, high = own.order.buckets;  // the bucket of the slot: begin[low] <= slot
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    begin[middle] <= slot ? void(low = middle) : void(high = middle);
  }
  const uint32_t* other_begin = at.begin(other);
  const int64_t first = other_begin[low], last = other_begin[low + 1];
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
  float* part = at.parts(own, p.width) + slot * p.width;
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) {
    const int c = threadIdx.x % kWarp + k * kWarp;
    if (c < p.width) part[c] = sum[k];
  }
}

// Lists the large buckets, in any order.
__global__ void list_large(Products p) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const BucketOrder& order = p.queries.order;
  if (i >= order.wave.segments() * order.buckets) return;
  const int64_t bucket = i % order.buckets, segment = i / order.buckets;
  const Segment at{segment / order.wave.hashes / p.query_heads,
                   segment / order.wave.hashes % p.query_heads, segment % order.wave.hashes};
  const uint32_t *q = at.begin(p.queries), *k = at.begin(p.keys);
  if (is_large(p, q[bucket + 1] - q[bucket], k[bucket + 1] - k[bucket])) {
    p.large[1 + atomicAdd(reinterpret_cast<unsigned long long*>(p.large), 1ull)] = i;
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

// Outer products: a block takes large buckets, one side and kPanel columns at a time.
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
  const int64_t items = p.large[0] * 2 * panels;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t column = item % panels * kPanel;
    const bool of_keys = item / panels % 2;
    const Half &own = p.own(of_keys), &other = p.own(!of_keys);
    const BucketOrder& order = own.order;
    const int64_t index = p.large[1 + item / panels / 2];
    const int64_t bucket = index % order.buckets, segment = index / order.buckets;
    const Segment at{segment / order.wave.hashes / p.query_heads,
                     segment / order.wave.hashes % p.query_heads, segment % order.wave.hashes};
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
    float* parts = at.parts(own, p.width);
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

// A warp a token of one side: the sum of its parts over the hashes of the wave, and over the query
// heads of its head.
template <class Out>
__global__ void __launch_bounds__(kThreads) sum_parts(Products p, bool of_keys) {
  const Half& own = p.own(of_keys);
  const int64_t heads = own.order.wave.heads, hashes = own.order.wave.hashes;
  const int64_t head = blockIdx.x % heads;
  const auto [all_sequence, tile] = own.tiles[blockIdx.x / heads];
  const Sequence sequence = yoso::sequence(own.side, all_sequence, own.grad.rows);
  const int64_t i = tile * kWarps + threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (i >= sequence.rows) return;
  const int64_t in_wave = all_sequence - own.order.wave.first_sequence;
  Out* grad =
      own.grad.row<Out>(sequence.batch, own.order.wave.first_head + head, sequence.begin + i);
  const bool real = sequence.is_real(i);
  float* before =
      own.sums +
      (own.order.base(in_wave, head, 0) - head * (hashes - 1) * own.order.wave_rows + i) * p.width;
  for (int64_t c = lane; c < p.width; c += kWarp) {
    float sum = 0;
    if (real) {
      if (!p.first_wave) sum = before[c];
      for (int64_t member = 0; member < own.per_head; ++member) {
        for (int64_t hash = 0; hash < hashes; ++hash) {
          const int64_t slot = own.order.slots[own.order.base(in_wave, head, hash) + i];
          const Segment at{in_wave, head * own.per_head + member, hash};
          sum += at.parts(own, p.width)[slot * p.width + c];
        }
      }
    }
    if (p.last_wave) {
      grad[c] = narrow<Out>(p.factor * sum);
    } else {
      before[c] = sum;
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
  float sum[kPerLane] = {};
  if (sequence.is_real(i)) {
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
      float my_factors[kPerLane], my_row[kPerLane], theirs[kPerLane];
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
          for (int c = 0; c < kPerLane; ++c) sum[c] += weight * theirs[c];
        }
      }
    }
  }
  Out* grad =
      own.grad.row<Out>(sequence.batch, own.order.wave.first_head + head, sequence.begin + i);
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) {
    const int c = lane + k * kWarp;
    if (c < p.width) grad[c] = narrow<Out>(sum[k]);
  }
}

// Parts and orders of the buckets in flight stay below this; beyond, sequences, heads and at last
// hashes go one after another.
constexpr int64_t kBytesInFlight = int64_t{1} << 30;
constexpr int kOuterBlocks = 1024;

// The two halves over one wave of groups; key heads first_key_head .. + key_heads - 1.
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
    p_.width = a.queries.cols;
    p_.value_width = a.values.cols;
    p_.factor = static_cast<float>(static_cast<double>(a.code_bits) / 2 /
                                   static_cast<double>(a.query_codes.rows));
    query_tiles_ = query_side_.tiles(kWarps);
    key_tiles_ = key_side_.tiles(kWarps);
  }

  void all() {
    const int64_t hashes = a_.query_codes.rows, rows = query_side_.longest() + key_side_.longest();
    const bool surrogate = a_.gradient == Gradient::kSurrogate;
    // Bytes of one hash, of one sequence and one key head with its query heads.
    const int64_t hash_bytes =
        ratio_ * (rows * (8 + (surrogate ? 4 * p_.width : 0)) + 8 * (int64_t{2} << a_.code_bits));
    const int64_t fit = std::max<int64_t>(1, kBytesInFlight / std::max<int64_t>(1, hash_bytes));
    const int64_t hash_step = surrogate ? std::min(hashes, fit) : hashes;
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
  float* sums(const GpuSide& side, const Wave& wave, int64_t heads) {
    return stream_.allocate<float>(heads * side.rows_of(wave.first_sequence, wave.sequences) *
                                   p_.width);
  }

  void one(const Wave& keys) {
    Stream::Scope scope(stream_);
    Wave queries = keys;
    queries.first_head *= ratio_;
    queries.heads *= ratio_;
    const bool surrogate = a_.gradient == Gradient::kSurrogate;
    prepare(p_.queries, query_side_, query_tiles_, queries, surrogate);
    prepare(p_.keys, key_side_, key_tiles_, keys, surrogate);
    p_.query_heads = queries.heads;
    if (!surrogate) {
      for (const bool of_keys : {false, true}) {
        const Half& own = of_keys ? p_.keys : p_.queries;
        with_gpu_type(kOp, of_keys ? "key_grad" : "query_grad", own.grad.dtype, [&]<class Out>() {
          launch(kOp, stream_.handle(), own.tiles.total * own.order.wave.heads, kThreads, 0,
                 visit_pairs<T, Out>, p_, of_keys, static_cast<float>(a_.code_bits));
        });
      }
      return;
    }
    const int64_t capacity = p_.queries.order.wave_rows * queries.heads * queries.hashes / kWarp;
    p_.large = stream_.allocate<int64_t>(1 + capacity);
    throw_if_failed(kOp, cudaMemsetAsync(p_.large, 0, 8, stream_.handle()));
    launch(kOp, stream_.handle(),
           ceil_div(queries.segments() * p_.queries.order.buckets, int64_t{kThreads}), kThreads, 0,
           list_large, p_);
    for (const bool of_keys : {false, true}) {
      const Half& own = of_keys ? p_.keys : p_.queries;
      launch(kOp, stream_.handle(), own.tiles.total * queries.heads * queries.hashes, kThreads, 0,
             multiply_pairs<T>, p_, of_keys);
    }
    const int64_t shared = 4 * (kChunk * (p_.value_width + kPanel) + p_.value_width * (kPanel + 1));
    launch(kOp, stream_.handle(), kOuterBlocks, kThreads, shared, multiply_outer<T>, p_);
    for (const bool of_keys : {false, true}) {
      const Half& own = of_keys ? p_.keys : p_.queries;
      with_gpu_type(kOp, of_keys ? "key_grad" : "query_grad", own.grad.dtype, [&]<class Out>() {
        launch(kOp, stream_.handle(), own.tiles.total * own.order.wave.heads, kThreads, 0,
               sum_parts<Out>, p_, of_keys);
      });
    }
  }

  void prepare(Half& half, const GpuSide& side, const Tiles& tiles, const Wave& wave,
               bool surrogate) {
    half.order = sort_by_code(kOp, half.codes, side, wave, a_.code_bits, surrogate, stream_);
    half.tiles = side.slice(tiles, wave.first_sequence, wave.sequences);
    half.parts = nullptr;
    if (surrogate) {
      half.parts = stream_.allocate<float>(half.order.wave_rows * wave.heads * half.per_head *
                                           wave.hashes * p_.width);
    }
  }

  static constexpr const char* kOp = BucketAttentionGrad::kName;

  const BucketAttentionGrad& a_;
  Stream& stream_;
  GpuSide query_side_, key_side_;
  Tiles query_tiles_, key_tiles_;
  int64_t ratio_;  // query heads of a key head
  Products p_{};
};

}  // namespace

void bucket_attention_grad(const BucketAttentionGrad& a, Stream& stream) {
  a.check();
  constexpr const char* kOp = BucketAttentionGrad::kName;
  with_gpu_type(kOp, "queries", a.queries.dtype, [&]<class T>() {
    Stream::Scope scope(stream);
    BucketAttentionGrad alike = a;
    if (a.out_grad.dtype != a.queries.dtype) {
      alike.out_grad = converted<T>(kOp, "out_grad", a.out_grad, stream);
    }
    Run<T>(alike, stream).all();
  });
}

}  // namespace yoso::cuda
