// A block takes kFixedRows rows of the fixed side and walks through the moving side in chunks. It
// counts the collisions with a chunk, a byte a pair, then multiplies it tile by tile.
//
// Counting: the rows of a chunk are listed by code once for all blocks (list_by_code), and every
// fixed row visits the members of its bucket under each hash; where these are too many, a warp
// compares its rows' codes with all of the chunk.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "yoso/ops/collision_sums.h"
#include "yoso/ops/pair_sums_mma.h"
#include "yoso/ops/part_sums.h"
#include "yoso/ops/sparse_buckets.h"

namespace yoso::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kFixedRows = 128, kTileRows = 64, kChunk = 512, kTilesOfChunk = kChunk / kTileRows;
// A list has as many buckets as a chunk has rows, by the lower bits of the code; members tell the
// others.
constexpr int kListBits = 9, kBuckets = 1 << kListBits;
static_assert(kBuckets == kChunk && kChunk == 2 * kThreads);
constexpr int kMaxCount = 127;  // the numbers that both 16-bit types have beside 128

struct Pass {
  CollisionSums sums;
  Tiles tiles;  // of kFixedRows fixed rows
  int64_t first_sequence;
  int64_t chunks, fixed_parts, moving_parts;  // of a sequence: kChunk moving rows, kTileRows rows
  uint32_t* buckets;  // [chunks][heads][M][kBuckets]: first member, from bit 16 on their number
  uint16_t* members;  // [chunks][heads][M][kChunk]: place (below), from bit 9 on upper code bits
  bool *fixed_spoiled, *moving_spoiled;  // [parts][heads], see find_spoiled
  ConstArray own_rows, own_scale;        // of the fixed side, as they came

  // Which chunk or part it is among those of the sequences of this pass.
  __device__ int64_t number(int64_t sequence, int64_t per_sequence, int64_t place) const {
    return (sequence - first_sequence) * per_sequence + place;
  }
  __device__ bool is_left_out(const PairSide::Sequence& fixed,
                              const PairSide::Sequence& moving) const {
    return fixed.count > sums.up_to || moving.count > sums.up_to;
  }
  __device__ int64_t first_head(int64_t head) const {
    return head * sums.moving_codes.heads / sums.fixed_codes.heads;
  }
  __device__ int64_t heads() const {
    const int64_t fixed = sums.fixed_codes.heads, moving = sums.moving_codes.heads;
    return moving < fixed ? 1 : moving / fixed;
  }
};

// The byte of a chunk's column in a row of counts: a lane's columns of 64 follow each other, as
// fragments want them (mma.h): word jj of lane t has columns 16 jj + {2t, 2t + 1, 2t + 8, 2t + 9}.
__device__ inline uint32_t place_of(uint32_t column) {
  return (column & ~63u) | column / 2 % 4 * 16 | column / 16 % 4 * 4 | column / 8 % 2 * 2 |
         column % 2;
}
__device__ inline uint32_t column_of_word(uint32_t word) {
  return word / 16 * 64 + word % 4 * 16 + word / 4 % 4 * 2;
}
// Rows permute their chunks of 16 bytes against bank conflicts, of fragments and of one column.
__device__ inline uint32_t count_offset(uint32_t row, uint32_t place) {
  const uint32_t turn = row % 8 * 4 | row / 8 % 4;
  return row * kChunk + (place ^ turn * 16);
}

// A block a chunk of one head under one hash.
__global__ void __launch_bounds__(kThreads) list_by_code(Pass a) {
  __shared__ uint32_t counts[kBuckets], in_warp[kWarps];
  __shared__ uint32_t members[kChunk / 2];
  const ConstArray& codes = a.sums.moving_codes;
  const int64_t hash = blockIdx.x % codes.rows, head = blockIdx.x / codes.rows % codes.heads;
  const int64_t item = blockIdx.x / codes.rows / codes.heads, chunk = item % a.chunks;
  const int64_t b = a.first_sequence + item / a.chunks;
  const auto moving = a.sums.moving[b];
  const int64_t first = chunk * kChunk;
  if (first >= moving.count || a.is_left_out(a.sums.fixed[b], moving)) return;
  const int tid = static_cast<int>(threadIdx.x), lane = tid % kWarp, warp = tid / kWarp;
  counts[tid] = counts[tid + kThreads] = 0;
  __syncthreads();
  uint32_t code[2], rank[2];
  bool there[2];
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const int64_t r = first + tid + k * kThreads;
    there[k] = r < moving.count;
    if (!there[k]) continue;
    code[k] = RowCodes(codes, moving.batch, head, hash, moving[r])[0];
    rank[k] = atomicAdd(&counts[code[k] % kBuckets], 1);
  }
  __syncthreads();
  const uint32_t size0 = counts[2 * tid], size1 = counts[2 * tid + 1];
  uint32_t sum = size0 + size1;
  for (int step = 1; step < kWarp; step *= 2) {
    const uint32_t below = __shfl_up_sync(kFullWarp, sum, step);
    if (lane >= step) sum += below;
  }
  if (lane == kWarp - 1) in_warp[warp] = sum;
  __syncthreads();
  uint32_t begin = sum - size0 - size1;
  for (int w = 0; w < warp; ++w) begin += in_warp[w];
  counts[2 * tid] = begin;
  counts[2 * tid + 1] = begin + size0;
  uint32_t* buckets = a.buckets + int64_t{blockIdx.x} * kBuckets;
  reinterpret_cast<uint2*>(buckets)[tid] = {begin | size0 << 16, (begin + size0) | size1 << 16};
  __syncthreads();
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    if (!there[k]) continue;
    const uint32_t slot = counts[code[k] % kBuckets] + rank[k];
    reinterpret_cast<uint16_t*>(members)[slot] = static_cast<uint16_t>(
        place_of(static_cast<uint32_t>(tid + k * kThreads)) | code[k] >> kListBits << 9);
  }
  __syncthreads();
  reinterpret_cast<uint32_t*>(a.members + int64_t{blockIdx.x} * kChunk)[tid] = members[tid];
}

// A block a part of one head: whether among its values, or, of the moving side where rows are
// summed, its rows and their scales, there is a NaN or an infinity, or so large a number that
// products of finite ones are none.
template <class T, Sum kSum>
__global__ void __launch_bounds__(kThreads) find_spoiled(Pass a, bool of_moving) {
  const PairSide& side = of_moving ? a.sums.moving : a.sums.fixed;
  const int64_t parts = of_moving ? a.moving_parts : a.fixed_parts;
  const int64_t heads = side.values.heads, head = blockIdx.x % heads;
  const int64_t part = blockIdx.x / heads % parts,
                b = a.first_sequence + blockIdx.x / heads / parts;
  const auto sequence = side[b];
  const int64_t first = part * kTileRows;
  if (first >= sequence.count || a.is_left_out(a.sums.fixed[b], a.sums.moving[b])) return;
  const int rows = static_cast<int>(min(int64_t{kTileRows}, sequence.count - first));
  // Of bfloat16 2^57: its square is below the largest float by more than the columns of a row.
  constexpr uint32_t kLimit = std::is_same_v<T, BFloat16> ? (127 + 57) << 7 : 0x7c00;
  bool spoiled = false;
  const auto look_at = [&](const ConstArray& x) {
    const int chunks = static_cast<int>(ceil_div(x.cols, 8));
    for (int i = static_cast<int>(threadIdx.x); i < rows * chunks; i += kThreads) {
      const T* from = x.row<T>(sequence.batch, head, sequence[first + i / chunks]) + i % chunks * 8;
      const uint4 words = *reinterpret_cast<const uint4*>(from);
      for (const uint32_t word : {words.x, words.y, words.z, words.w}) {
        spoiled = spoiled || (word & 0x7fff) >= kLimit || (word >> 16 & 0x7fff) >= kLimit;
      }
    }
  };
  look_at(side.values);
  if (kSum == Sum::kRows && of_moving) {
    look_at(side.rows);
    const int r = static_cast<int>(threadIdx.x);
    if (side.scale.data && r < rows) {
      const float* scale = side.scale.row<float>(sequence.batch, head, 0);
      spoiled = spoiled || !isfinite(scale[sequence[first + r]]);
    }
  }
  spoiled = __syncthreads_or(spoiled);
  bool* flags = of_moving ? a.moving_spoiled : a.fixed_spoiled;
  if (threadIdx.x == 0) flags[blockIdx.x] = spoiled;
}

// Two neighbouring counts of a word as a pair of T: exact below 128.
template <class T>
__device__ inline uint32_t pair_of_counts(uint32_t word, bool upper) {
  // 128 + x in bfloat16 and 1024 + x in half have x as their lower bits.
  constexpr bool kHalf = std::is_same_v<T, Float16>;
  const uint32_t pair = __byte_perm(word, kHalf ? 0x64006400 : 0x43004300, upper ? 0x7352 : 0x7150);
  if constexpr (kHalf) {
    const __half2 base = __float2half2_rn(1024);
    const __half2 x = __hsub2(*reinterpret_cast<const __half2*>(&pair), base);
    return *reinterpret_cast<const uint32_t*>(&x);
  } else {
    const __nv_bfloat162 base = __float2bfloat162_rn(128);
    const __nv_bfloat162 x = __hsub2(*reinterpret_cast<const __nv_bfloat162*>(&pair), base);
    return *reinterpret_cast<const uint32_t*>(&x);
  }
}
// A byte of a word, as a number.
__device__ inline float count_of(uint32_t word, int byte) {
  return __uint_as_float(__byte_perm(word, 0x4b000000, 0x7440 | byte)) - 8388608.0f;
}

// Adds to the counts what a warp's 32 rows have in common with all of a chunk under 8 hashes, of
// which lane r has the codes of row r, two in a word.
struct Comparison {
  const ConstArray* codes;
  const PairSide::Sequence* moving;
  int64_t head, first_row;  // of the moving side; first_row: of the chunk
  int first_hash, hashes;   // hashes first_hash, first_hash + 2, ... below `hashes`
};
constexpr int kHashesAtOnce = 8;
__device__ void compare_all(const Comparison& c, const uint32_t (&mine)[kHashesAtOnce / 2],
                            uint32_t first_row, unsigned char* counts) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll 1
  for (uint32_t word = lane; word < kChunk / 4; word += kWarp) {
    const uint32_t column = column_of_word(word);
    uint32_t theirs[4][kHashesAtOnce / 2], counted = 0;
    int hashes = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int64_t r = c.first_row + column + k / 2 * 8 + k % 2;
      const bool there = r < c.moving->count;
      counted |= there ? 0xffu << 8 * k : 0u;
      const RowCodes codes(*c.codes, c.moving->batch, c.head, 0, (*c.moving)[there ? r : 0]);
#pragma unroll
      for (int h = 0; h < kHashesAtOnce; ++h) {
        const int hash = c.first_hash + 2 * h;
        const uint32_t code = hash < c.hashes ? codes[hash] : 0;
        theirs[k][h / 2] = h % 2 == 0 ? code : theirs[k][h / 2] | code << 16;
      }
    }
#pragma unroll
    for (int h = 0; h < kHashesAtOnce; ++h) hashes += c.first_hash + 2 * h < c.hashes;
#pragma unroll 1
    for (int r = 0; r < kWarp; ++r) {
      uint32_t different[4] = {};
#pragma unroll
      for (int h = 0; h < kHashesAtOnce / 2; ++h) {
        const uint32_t own = __shfl_sync(kFullWarp, mine[h], r);
#pragma unroll
        for (int k = 0; k < 4; ++k) different[k] += __vminu2(own ^ theirs[k][h], 0x00010001);
      }
      uint32_t sum = 0;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        // Hashes that there are not are equal on both sides.
        const uint32_t equal = hashes - (different[k] & 0xffff) - (different[k] >> 16);
        sum |= equal << 8 * k;
      }
      sum &= counted;
      const uint32_t at = count_offset(first_row + r, 4 * word);
      if (sum != 0) atomicAdd(reinterpret_cast<uint32_t*>(counts + at), sum);
    }
  }
}

// More visits of a row under kHashesAtOnce hashes, and comparing with all of the chunk is less.
constexpr uint32_t kMostVisits = 384;

template <int kWidth, Sum kSum>
struct Memory {
  static constexpr int kCounts = kFixedRows * kChunk;
  static constexpr int kTileBytes = kTileRows * kWidth * 2;
  static constexpr int kStageBytes = kTileBytes * (kSum == Sum::kRows ? 2 : 1);
  static constexpr int kScales = kCounts + 2 * kStageBytes;
  static constexpr int kBytes = kScales + (kSum == Sum::kRows ? 2 * kTileRows * 4 : 0);
};

template <class T, int kWidth, Sum kSum>
__global__ void __launch_bounds__(kThreads, kWidth <= 64 ? 2 : 1) add_collisions(Pass a) {
  using Engine = MmaEngine<T, kWidth, Sum::kRows>;
  static_assert(Engine::kRowTiles == 1 && Engine::kFixedRows == kFixedRows &&
                Engine::kMovingRows == kTileRows && Engine::kThreads == kThreads);
  using Tile = SharedTile<kWidth>;
  using Memory = cuda::Memory<kWidth, kSum>;
  constexpr int kSteps = kWidth / 16;
  constexpr bool kRows = kSum == Sum::kRows;
  extern __shared__ __align__(1024) unsigned char memory[];
  const uint32_t shared = shared_address(memory);
  const PairSide &fixed_side = a.sums.fixed, &moving_side = a.sums.moving;

  const int64_t head = blockIdx.x / a.tiles.total;
  const auto [b, tile] = a.tiles[blockIdx.x % a.tiles.total];
  const auto fixed = fixed_side[b], moving = moving_side[b];
  const int64_t first = tile * kFixedRows;
  if (first >= fixed.count || a.is_left_out(fixed, moving)) return;
  const int tid = static_cast<int>(threadIdx.x), lane = tid % kWarp;
  const uint32_t warp_row = tid / kWarp * 16;  // of this warp, as a factor

  FixedFragments<1, kRows ? kSteps : 1> values;
  bool fixed_spoiled = false;
  if constexpr (kRows) {
    copy_tile<T, kFixedRows, kThreads>(fixed_side.values, fixed, head, first, Tile{shared});
    wait_for_copies();
    __syncthreads();
    load_fixed(Tile{shared}, values);
    const bool* flags = a.fixed_spoiled + head;
    const int64_t part = a.number(b, a.fixed_parts, first / kTileRows),
                  heads = fixed_side.values.heads;
    fixed_spoiled =
        flags[part * heads] || (first + kTileRows < fixed.count && flags[(part + 1) * heads]);
  }

  // The next tile of the moving side to copy: head by head, in the order of real rows.
  const int64_t end_head = a.first_head(head) + (moving.count == 0 ? 0 : a.heads());
  int64_t next_head = a.first_head(head), next_row = 0;
  const auto copy_next = [&](int stage) {
    if (next_head == end_head) return;
    const Tile to{shared + Memory::kCounts + stage * Memory::kStageBytes};
    copy_tile<T, kTileRows, kThreads>(moving_side.values, moving, next_head, next_row, to);
    if constexpr (kRows) {
      copy_tile<T, kTileRows, kThreads>(moving_side.rows, moving, next_head, next_row,
                                        Tile{to.base + Memory::kTileBytes});
      if (moving_side.scale.data && tid < kTileRows) {
        const bool there = next_row + tid < moving.count;
        const float* scale = moving_side.scale.row<float>(moving.batch, next_head, 0);
        copy_async<4>(shared + Memory::kScales + 4 * (stage * kTileRows + tid),
                      there ? scale + moving[next_row + tid] : scale, there);
      }
    }
    next_row += kTileRows;
    if (next_row >= moving.count) {
      next_row = 0;
      ++next_head;
    }
  };

  // A thread counts for one row, under every second hash.
  const int counted_row = tid % kFixedRows;
  const bool is_there = first + counted_row < fixed.count;
  const RowCodes own_codes(a.sums.fixed_codes, fixed.batch, head, 0,
                           is_there ? fixed[first + counted_row] : 0);
  const int hashes = static_cast<int>(a.sums.fixed_codes.rows);
  const auto count_chunk = [&](int64_t other, int64_t chunk) {
#pragma unroll
    for (int i = tid * 16; i < Memory::kCounts; i += kThreads * 16) {
      *reinterpret_cast<uint4*>(memory + i) = uint4{};
    }
    __syncthreads();
    const int64_t list =
        (a.number(b, a.chunks, chunk) * a.sums.moving_codes.heads + other) * hashes;
    const uint32_t* buckets = a.buckets + list * kBuckets;
    const uint16_t* members = a.members + list * kChunk;
#pragma unroll 1
    for (int from = tid / kFixedRows; from < hashes; from += 2 * kHashesAtOnce) {
      uint32_t code[kHashesAtOnce], bucket[kHashesAtOnce], visits = 0;
#pragma unroll
      for (int k = 0; k < kHashesAtOnce; ++k) {
        const int hash = from + 2 * k;
        code[k] = is_there && hash < hashes ? own_codes[hash] : 0;
      }
#pragma unroll
      for (int k = 0; k < kHashesAtOnce; ++k) {
        const int hash = from + 2 * k;
        bucket[k] = is_there && hash < hashes ? buckets[hash * kBuckets + code[k] % kBuckets] : 0;
        visits += bucket[k] >> 16;
      }
      if (__reduce_max_sync(kFullWarp, visits) > kMostVisits) {
        uint32_t pairs[kHashesAtOnce / 2];
#pragma unroll
        for (int k = 0; k < kHashesAtOnce / 2; ++k) {
          pairs[k] = code[2 * k] | code[2 * k + 1] << 16;
        }
        compare_all({&a.sums.moving_codes, &moving, other, chunk * kChunk, from, hashes}, pairs,
                    static_cast<uint32_t>(counted_row - lane), memory);
        continue;
      }
      // Under all of them at once: a load waits for its list alone.
      uint32_t most = 0;
#pragma unroll
      for (int k = 0; k < kHashesAtOnce; ++k) most = max(most, bucket[k] >> 16);
#pragma unroll 1
      for (uint32_t i = 0; i < most; ++i) {
        uint32_t member[kHashesAtOnce];
#pragma unroll
        for (int k = 0; k < kHashesAtOnce; ++k) {
          if (i < bucket[k] >> 16) {
            member[k] = members[(from + 2 * k) * kChunk + (bucket[k] & 0xffff) + i];
          }
        }
#pragma unroll
        for (int k = 0; k < kHashesAtOnce; ++k) {
          if (i < bucket[k] >> 16 && member[k] >> 9 == code[k] >> kListBits) {
            const uint32_t at = count_offset(counted_row, member[k] % kChunk);
            atomicAdd(reinterpret_cast<uint32_t*>(memory + (at & ~3u)), 1u << at % 4 * 8);
          }
        }
      }
    }
    __syncthreads();
  };

  // Half has the range of what is summed, not of what that is a share of.
  constexpr bool kFactorFirst = kRows && std::is_same_v<T, Float16>;
  const float factor = a.sums.factor;
  typename Engine::Sums sums = {};
  const uint32_t row0 = warp_row + lane / 4, row1 = row0 + 8;
  // Row j of a tile times the weights of this lane's two rows, where they meet it.
  const auto add_row = [&](Tile tile, uint32_t j, float weight0, bool meets0, float weight1,
                           bool meets1) {
#pragma unroll
    for (int n = 0; n < 2 * kSteps; ++n) {
      const uint32_t at = tile.base - shared + Tile::offset(j, n) + lane % 4 * 4;
      const T* pair = reinterpret_cast<const T*>(memory + at);
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        if (meets0) sums[0][n][k] += weight0 * widen(pair[k]);
        if (meets1) sums[0][n][2 + k] += weight1 * widen(pair[k]);
      }
    }
  };
  const int64_t tiles = ceil_div(moving.count, int64_t{kTileRows});
  int stage = 0;
  __syncthreads();  // the fixed side has passed through
  copy_next(0);
  for (int64_t other = a.first_head(head); other < end_head; ++other) {
    for (int64_t t = 0; t < tiles; ++t, stage = 1 - stage) {
      wait_for_copies();
      __syncthreads();
      copy_next(1 - stage);
      if (t % kTilesOfChunk == 0) count_chunk(other, t / kTilesOfChunk);
      const Tile moving_values{shared + Memory::kCounts + stage * Memory::kStageBytes};
      const Tile moving_rows{moving_values.base + Memory::kTileBytes};
      const uint32_t place = t % kTilesOfChunk * 64 + lane % 4 * 16;
      const uint4 words0 = *reinterpret_cast<const uint4*>(memory + count_offset(row0, place));
      const uint4 words1 = *reinterpret_cast<const uint4*>(memory + count_offset(row1, place));
      const uint32_t counts0[4] = {words0.x, words0.y, words0.z, words0.w};
      const uint32_t counts1[4] = {words1.x, words1.y, words1.z, words1.w};
      const bool spoiled =
          fixed_spoiled ||
          a.moving_spoiled[a.number(b, a.moving_parts, t) * moving_side.values.heads + other];
      if constexpr (kRows) {
        const float* scales = reinterpret_cast<const float*>(memory + Memory::kScales) +
                              stage * kTileRows + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          typename Engine::Products g;
          Engine::multiply(values, moving_values, 16 * j, g);
          const auto count = [&](int i) {
            return count_of(i % 4 < 2 ? counts0[j] : counts1[j], i / 4 * 2 + i % 2);
          };
#pragma unroll
          for (int i = 0; i < 8; ++i)
            g[i / 4][i % 4] *= kFactorFirst ? factor * count(i) : count(i);
          if (moving_side.scale.data) scale_columns<1>(g, scales + 16 * j);
          if (!spoiled) {
            Engine::add_products(g, moving_rows, 16 * j, sums);
            continue;
          }
          // What is not finite stays in the rows that it meets.
#pragma unroll
          for (int c = 0; c < 16; ++c) {
            const int holder = (lane & ~3) | c / 2 % 4, i = c / 8 * 4 + c % 2;
            const float weight0 = __shfl_sync(kFullWarp, g[c / 8][c % 2], holder);
            const float weight1 = __shfl_sync(kFullWarp, g[c / 8][2 + c % 2], holder);
            const bool meets0 = __shfl_sync(kFullWarp, count(i), holder) > 0;
            const bool meets1 = __shfl_sync(kFullWarp, count(i + 2), holder) > 0;
            add_row(moving_rows, 16 * j + c, weight0, meets0, weight1, meets1);
          }
        }
      } else if (!spoiled) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const uint32_t counts[4] = {
              pair_of_counts<T>(counts0[j], false), pair_of_counts<T>(counts1[j], false),
              pair_of_counts<T>(counts0[j], true), pair_of_counts<T>(counts1[j], true)};
#pragma unroll
          for (int n = 0; n < 2 * kSteps; n += 2) {
            uint32_t rows[4];
            moving_values.load_rows(moving_values.rows_lane(), 16 * j, n / 2, rows);
            mma<T>(sums[0][n], counts, rows[0], rows[1]);
            mma<T>(sums[0][n + 1], counts, rows[2], rows[3]);
          }
        }
      } else {
#pragma unroll 1
        for (uint32_t j = 0; j < kTileRows; ++j) {
          const uint32_t at = place_of(t % kTilesOfChunk * 64 + j);
          const float count0 = memory[count_offset(row0, at)];
          const float count1 = memory[count_offset(row1, at)];
          add_row(moving_values, j, count0, count0 > 0, count1, count1 > 0);
        }
      }
    }
  }

  const float rest = kFactorFirst ? 1.0f : factor;
  if (kRows && a.sums.of_rows) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t r = first + warp_row + 8 * half + lane / 4;
      const bool exists = r < fixed.count;
      const int64_t row = exists ? fixed[r] : 0;
      const int64_t from = fixed.batch * a.own_rows.batch_stride + head * a.own_rows.head_stride +
                           row * a.own_rows.row_stride + lane % 4 * 2;
      float grad[2 * kSteps][2], own[2 * kSteps][2];
#pragma unroll
      for (int n = 0; n < 2 * kSteps; ++n) {
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const bool in_row = exists && 8 * n + lane % 4 * 2 + k < a.own_rows.cols;
          own[n][k] = in_row ? widen(static_cast<const T*>(a.own_rows.data)[from + 8 * n + k]) : 0;
          grad[n][k] = rest * sums[0][n][2 * half + k];
        }
      }
      const float scale = exists ? a.own_scale.row<float>(fixed.batch, head, 0)[row] : 0;
      to_gradient_of_row(
          grad, scale, [&](int n, int k) { return own[n][k]; },
          [](float sum) {
            sum += __shfl_xor_sync(kFullWarp, sum, 1);
            return sum + __shfl_xor_sync(kFullWarp, sum, 2);
          });
#pragma unroll
      for (int n = 0; n < 2 * kSteps; ++n) {
        sums[0][n][2 * half] = grad[n][0];
        sums[0][n][2 * half + 1] = grad[n][1];
      }
    }
  }
  store_sums(sums, kRows && a.sums.of_rows ? 1.0f : rest, fixed, head, first + warp_row,
             a.sums.out);
}

// Lists of the sequences in flight stay below this.
constexpr int64_t kBytesInFlight = int64_t{1} << 28;

template <class T, int kWidth, Sum kSum>
void run_pass(const char* op, const Pass& a, Stream& stream) {
  launch(op, stream.handle(), a.sums.fixed_codes.heads * a.tiles.total, kThreads,
         Memory<kWidth, kSum>::kBytes, add_collisions<T, kWidth, kSum>, a);
}

template <class T, Sum kSum>
void run(const char* op, Pass a, const GpuSide& fixed, const GpuSide& moving, Stream& stream) {
  CollisionSums& sums = a.sums;
  a.own_rows = sums.fixed.rows;
  a.own_scale = sums.fixed.scale;
  pack_where_needed<T>(op, sums.moving.values, stream);
  int64_t width = sums.moving.values.cols;
  if (kSum == Sum::kRows) {
    pack_where_needed<T>(op, sums.fixed.values, stream);
    pack_where_needed<T>(op, sums.moving.rows, stream, &sums.moving.scale);
    width = std::max(width, sums.moving.rows.cols);
  }
  const Tiles tiles = fixed.tiles(kFixedRows);
  const int64_t fixed_heads = sums.fixed_codes.heads, moving_heads = sums.moving_codes.heads;
  const int64_t hashes = sums.moving_codes.rows;
  const auto pieces = [&](const GpuSide& side, int64_t rows) {
    return ceil_div(std::max<int64_t>(1, std::min(side.longest(), sums.up_to)), rows);
  };
  a.chunks = pieces(moving, kChunk);
  a.fixed_parts = pieces(fixed, kTileRows);
  a.moving_parts = pieces(moving, kTileRows);
  const int64_t sequence_bytes = a.chunks * moving_heads * hashes * (4 * kBuckets + 2 * kChunk);
  const int64_t step = std::max<int64_t>(1, kBytesInFlight / std::max<int64_t>(1, sequence_bytes));
  for (int64_t s = 0; s < fixed.sequences(); s += step) {
    const Stream::Scope scope(stream);
    const int64_t count = std::min(step, fixed.sequences() - s);
    a.first_sequence = s;
    a.tiles = fixed.slice(tiles, s, count);
    const int64_t lists = count * a.chunks * moving_heads * hashes;
    const int64_t moving_flags = count * a.moving_parts * moving_heads;
    const int64_t fixed_flags = count * a.fixed_parts * fixed_heads;
    a.buckets = stream.allocate<uint32_t>(lists * kBuckets);
    a.members = stream.allocate<uint16_t>(lists * kChunk);
    a.moving_spoiled = stream.allocate<bool>(moving_flags);
    launch(op, stream.handle(), lists, kThreads, 0, list_by_code, a);
    launch(op, stream.handle(), moving_flags, kThreads, 0, find_spoiled<T, kSum>, a, true);
    if (kSum == Sum::kRows) {
      a.fixed_spoiled = stream.allocate<bool>(fixed_flags);
      launch(op, stream.handle(), fixed_flags, kThreads, 0, find_spoiled<T, kSum>, a, false);
    }
    if (width <= 32) {
      run_pass<T, 32, kSum>(op, a, stream);
    } else if (width <= 64) {
      run_pass<T, 64, kSum>(op, a, stream);
    } else {
      run_pass<T, 128, kSum>(op, a, stream);
    }
  }
}

// A block a sequence.
__global__ void __launch_bounds__(kThreads)
    mask_long(PairSide side, PairSide other, int64_t up_to, bool* mask) {
  const int64_t b = blockIdx.x;
  const bool is_long = side[b].count > up_to || other[b].count > up_to;
  const Sequence s = sequence(side.side, b, side.rows.rows);
  for (int64_t i = threadIdx.x; i < s.rows; i += kThreads) {
    mask[s.batch * side.rows.rows + s.begin + i] = is_long && s.is_real(i);
  }
}

}  // namespace

bool counts_collisions(Sum sum, const ConstArray& codes, int64_t code_bits, int64_t width) {
  if (codes.rows > kMaxCount || 4 * codes.rows > int64_t{1} << code_bits || width > 128)
    return false;
  const auto bytes = [&]<Sum kSum>() -> int64_t {
    if (width <= 32) return Memory<32, kSum>::kBytes;
    return width <= 64 ? Memory<64, kSum>::kBytes : Memory<128, kSum>::kBytes;
  };
  return max_shared_bytes() >= (sum == Sum::kRows ? bytes.template operator()<Sum::kRows>()
                                                  : bytes.template operator()<Sum::kValues>());
}

void sum_collisions(const char* op, Sum sum, const CollisionSums& a, const GpuSide& fixed,
                    const GpuSide& moving, Stream& stream) {
  const Stream::Scope scope(stream);
  const Pass pass{.sums = a};
  const auto of_type = [&]<class T>() {
    sum == Sum::kRows ? run<T, Sum::kRows>(op, pass, fixed, moving, stream)
                      : run<T, Sum::kValues>(op, pass, fixed, moving, stream);
  };
  a.moving.values.dtype == DType::kBFloat16 ? of_type.template operator()<BFloat16>()
                                            : of_type.template operator()<Float16>();
}

Lengths::Lengths(const GpuSide& queries, const GpuSide& keys, int64_t up_to) {
  for (int64_t s = 0; s < queries.sequences(); ++s) {
    if (queries.rows_of(s, 1) <= up_to && keys.rows_of(s, 1) <= up_to) {
      some_short = true;
    } else {
      some_long = true;
    }
  }
  // Masks may shorten any.
  if (queries.rows().mask || keys.rows().mask) some_short = true;
}

const bool* mask_of_long(const char* op, const PairSide& side, const PairSide& other, int64_t up_to,
                         Stream& stream) {
  const int64_t sequences = side.side.count(side.rows.batch);
  bool* mask = stream.allocate<bool>(side.rows.batch * side.rows.rows);
  launch(op, stream.handle(), sequences, kThreads, 0, mask_long, side, other, up_to, mask);
  return mask;
}

}  // namespace yoso::cuda
