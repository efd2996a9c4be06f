// A block takes kFixedRows rows of the fixed side and walks through the moving side in tiles, as in
// pair_sums_mma.h.
//
// Collisions are counted whatever the data: codes are cut into planes (cut_into_planes), of which
// word b holds bit b of the codes of 32 hashes of one row. Two rows differ under the hashes in
//   (own_0 ^ other_0) | (own_1 ^ other_1) | ...      one three-way operation a bit of the codes,
// and have as many hashes in common as bits are zero. With at most 16 or 8 hashes, a word of the
// moving side holds two or four rows. A thread counts where its factors of a product belong (mma.h),
// so that counts never leave its registers.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "yoso/ops/collision_sums.h"
#include "yoso/ops/pair_sums_mma.h"
#include "yoso/ops/part_sums.h"
#include "yoso/ops/sparse_buckets.h"

namespace yoso::cuda {
namespace {

constexpr int kFixedRows = 128, kTileRows = 64;
constexpr int kMaxCount = 255;  // counts that bfloat16 holds
constexpr int kHashesOfWord = 32;

struct Pass {
  CollisionSums sums;
  PairWeight weight;  // of Gradient::kTrue
  Tiles tiles;        // of kFixedRows fixed rows
  int64_t first_sequence;
  const int32_t* order;  // of the sequences of this pass, see order_by_length; absent: as they come
  // Planes of a block of kFixedRows fixed rows and of a tile of kTileRows moving rows follow each
  // other: [sequences][heads][blocks][words][T][rows / pack].
  uint32_t *fixed_planes, *moving_planes;
  int64_t fixed_blocks, moving_tiles;  // of a sequence
  int words, pack;                     // of a row and bit of its code; moving rows in a word
  int block_words, tile_words;         // planes of one of them
  int row_tiles;                       // of a warp
  ConstArray own_rows, own_scale;      // of the fixed side, as they came
  int64_t* spoiled;                    // a list of blocks, see Numbers

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
  __device__ uint32_t* planes_of_block(int64_t sequence, int64_t head, int64_t block) const {
    const int64_t number = (sequence - first_sequence) * sums.fixed_codes.heads + head;
    return fixed_planes + (number * fixed_blocks + block) * block_words;
  }
  __device__ uint32_t* planes_of_tile(int64_t sequence, int64_t head, int64_t tile) const {
    const int64_t number = (sequence - first_sequence) * sums.moving_codes.heads + head;
    return moving_planes + (number * moving_tiles + tile) * tile_words;
  }
};

// Which row stands at a place: the rows of one thread follow each other. They are lane / 4 + 8 k of
// its warp's, and of 16 moving rows 2 (lane % 4) + {0, 1, 8, 9}.
__device__ inline int64_t fixed_row_at(int64_t place, int row_tiles) {
  const int64_t rows = 2 * row_tiles;  // of a thread
  return place / (8 * rows) * (8 * rows) + place / rows % 8 + place % rows * 8;
}
__device__ inline int64_t moving_row_at(int64_t place) {
  return place / 16 * 16 + place / 4 % 4 * 2 + place / 2 % 2 * 8 + place % 2;
}

// Of eight words, bit b of byte i of word j becomes bit j of byte i of word b.
__device__ inline void transpose_bits(uint32_t (&x)[8]) {
  constexpr uint32_t kMasks[3] = {0x55555555, 0x33333333, 0x0f0f0f0f};
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    const int step = 1 << k;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if (j & step) continue;
      const uint32_t swapped = (x[j] >> step ^ x[j + step]) & kMasks[k];
      x[j + step] ^= swapped;
      x[j] ^= swapped << step;
    }
  }
}

// A thread a place, a block kFixedRows places of one head.
__global__ void __launch_bounds__(kFixedRows) cut_into_planes(Pass a, bool of_moving) {
  const PairSide& side = of_moving ? a.sums.moving : a.sums.fixed;
  const ConstArray& codes = of_moving ? a.sums.moving_codes : a.sums.fixed_codes;
  const int64_t places = of_moving ? a.moving_tiles * kTileRows : a.fixed_blocks * kFixedRows;
  const int64_t blocks = ceil_div(places, kFixedRows);
  const int64_t head = blockIdx.x % codes.heads, block = blockIdx.x / codes.heads % blocks;
  const int64_t b = a.first_sequence + blockIdx.x / codes.heads / blocks;
  const auto sequence = side[b];
  const int64_t place = block * kFixedRows + threadIdx.x;
  const int64_t whole = of_moving ? kTileRows : kFixedRows;  // places that are read together
  if (place >= places || place / whole * whole >= sequence.count ||
      a.is_left_out(a.sums.fixed[b], a.sums.moving[b])) {
    return;
  }
  const int64_t r = of_moving ? moving_row_at(place) : fixed_row_at(place, a.row_tiles);
  const bool exists = r < sequence.count;
  const RowCodes own(codes, sequence.batch, head, 0, exists ? sequence[r] : 0);
  const int hashes = static_cast<int>(codes.rows), bits = static_cast<int>(a.sums.code_bits);
  const int stride = of_moving ? kTileRows / a.pack : kFixedRows;
  uint32_t* planes = of_moving
                         ? a.planes_of_tile(b, head, place / kTileRows) + place % kTileRows / a.pack
                         : a.planes_of_block(b, head, block) + threadIdx.x;
#pragma unroll 1
  for (int first = 0; first < hashes; first += kHashesOfWord) {
    uint32_t low[8] = {}, high[8] = {};
#pragma unroll
    for (int hash = 0; hash < kHashesOfWord; ++hash) {
      const uint32_t code = exists && first + hash < hashes ? own[first + hash] : 0;
      low[hash % 8] |= (code & 0xff) << hash / 8 * 8;
      high[hash % 8] |= code >> 8 << hash / 8 * 8;
    }
    transpose_bits(low);
    if (bits > 8) transpose_bits(high);
#pragma unroll
    for (int bit = 0; bit < 16; ++bit) {
      if (bit >= bits) break;
      uint32_t word = bit < 8 ? low[bit % 8] : high[bit % 8];
      const int size = kHashesOfWord / a.pack;
      if (of_moving) {
        word <<= threadIdx.x % a.pack * size;
        for (int step = 1; step < a.pack; step *= 2) {
          word |= __shfl_xor_sync(kFullWarp, word, step);
        }
      } else {
        for (int step = size; step < kHashesOfWord; step *= 2) word |= word << step;
      }
      if (!of_moving || place % a.pack == 0) planes[bit * stride] = word;
    }
    planes += bits * stride;
  }
}

// Long sequences first: blocks that start one after another go to different multiprocessors, which
// then have long and short ones alike. A thread a sequence.
constexpr int64_t kMostOrdered = 1024;
__global__ void order_by_length(Pass a, int count, int32_t* order) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= count) return;
  const int64_t mine = a.sums.moving[a.first_sequence + i].count;
  int rank = 0;
  for (int k = 0; k < count; ++k) {
    const int64_t other = a.sums.moving[a.first_sequence + k].count;
    rank += other > mine || (other == mine && k < i);
  }
  order[rank] = i;
}

// Planes in shared memory, from this thread's first row of either side on.
struct Planes {
  const uint32_t *own, *other;
  int words, bits;
  uint32_t unused;  // the bits of the last word that stand for no hash
};

// Whole numbers as floats, as long as they are small: 2^23 + x has x as its lower bits.
constexpr uint32_t kZero = 0x4b000000;
constexpr float kZeroAsFloat = 8388608.0f;

// kZero + under how many hashes this thread's rows have not the code of four moving ones.
template <int kPack, int kRows>
__device__ inline void count_different(const Planes& planes, uint32_t (&different)[kRows][4]) {
  constexpr int kWords = 4 / kPack, kSize = kHashesOfWord / kPack;
  const uint32_t *own = planes.own, *other = planes.other;
  const auto add_word = [&](bool is_first, uint32_t unused) {
    uint32_t differ[kRows][kWords];
    const auto add_bit = [&](bool is_first_bit) {
      const auto mine = Vec<uint32_t, kRows>::load(own);
      const auto theirs = Vec<uint32_t, kWords>::load(other);
#pragma unroll
      for (int i = 0; i < kRows * kWords; ++i) {
        uint32_t& x = differ[i / kWords][i % kWords];
        x = (is_first_bit ? unused : x) | (mine.at[i / kWords] ^ theirs.at[i % kWords]);
      }
      own += kFixedRows;
      other += kTileRows / kPack;
    };
    add_bit(true);
    int bit = 1;
    if (planes.bits >= 8) {
#pragma unroll
      for (; bit < 8; ++bit) add_bit(false);
    }
#pragma unroll 1
    for (; bit < planes.bits; ++bit) add_bit(false);
#pragma unroll
    for (int i = 0; i < 4 * kRows; ++i) {
      constexpr uint32_t kOne = ~0u >> (kHashesOfWord - kSize);
      const uint32_t part = differ[i / 4][i % 4 / kPack] >> i % kPack * kSize & kOne;
      different[i / 4][i % 4] = (is_first ? kZero : different[i / 4][i % 4]) + __popc(part);
    }
  };
  add_word(true, planes.words == 1 ? planes.unused : 0);
  if constexpr (kPack == 1) {
#pragma unroll 1
    for (int word = 2; word <= planes.words; ++word) {
      add_word(false, word == planes.words ? planes.unused : 0);
    }
  }
}

// Of a block: both stages' tiles, then the planes of both, their scales, the planes of the fixed
// rows.
template <class T, int kWidth, Sum kSum, Gradient kGradient = Gradient::kSurrogate>
struct Memory {
  using Engine = MmaEngine<T, kWidth, Sum::kValues>;
  // Of a multiprocessor of Hopper: as many as leave the registers that are needed.
  static constexpr bool kRows = kSum != Sum::kValues, kTrue = kGradient == Gradient::kTrue;
  static_assert(!kTrue || kSum == Sum::kRows);
  static constexpr int kBlocks = kWidth > 64
                                     ? 1
                                     : 6 - kWidth / 32 - kRows - (kSum == Sum::kBoth) - kTrue;
  static constexpr int kTileBytes = kTileRows * kWidth * 2;
  static constexpr int kStageBytes = kTileBytes * (kRows ? 2 : 1);
  static constexpr int kPlanes = 2 * kStageBytes;
  static constexpr int kScaleBytes = kRows ? kTileRows * 4 : 0;

  static __host__ __device__ int planes(const Pass& a, int stage) {
    return kPlanes + stage * 4 * a.tile_words;
  }
  static __host__ __device__ int scales(const Pass& a, int stage) {
    return planes(a, 2) + stage * kScaleBytes;
  }
  static __host__ __device__ int own(const Pass& a) { return scales(a, 2); }
  static __host__ int64_t bytes(const Pass& a) {
    const int64_t passing = kRows ? kFixedRows * kWidth * 2 : 0;  // fixed values, or rows
    return std::max(passing, int64_t{own(a)} + 4 * a.block_words);
  }
};

// Products pass numbers that are not finite on to rows that do not meet them. Blocks take all for
// finite first (kFinite); sums that are not are made again, where such numbers stay in the rows that
// meet them (kAny). Blocks list what is to be made again: first how many entries there are, then, in
// any order, the number of a block with kSpoiledSums, of Sum::kBoth also kSpoiledValues.
enum class Numbers : uint8_t { kFinite, kAny };
constexpr int64_t kSpoiledSums = int64_t{1} << 61, kSpoiledValues = int64_t{1} << 62;
constexpr int64_t kSpoiledBlock = kSpoiledSums - 1;
constexpr int kBlocksOfAny = 1024;  // go through the list, which is empty as a rule

// Whether a thread of the block has a sum that is not finite.
template <int kRowTiles, int kTiles>
__device__ inline bool is_spoiled(const float (&sums)[kRowTiles][kTiles][4]) {
  float zero = 0;
#pragma unroll
  for (int i = 0; i < kRowTiles * kTiles * 4; ++i) {
    zero += 0 * sums[i / (4 * kTiles)][i / 4 % kTiles][i % 4];
  }
  return __syncthreads_or(zero != 0);  // NaN
}

// sums += weights, but 0 where rows do not meet (their count is 0), times rows first ... of a tile,
// in float, row by row.
template <class T, int kProducts, int kWidth, int kRowTiles, int kTiles>
__device__ inline void add_meeting(const float (&counts)[kProducts][4],
                                   const float (&weights)[kProducts][4],
                                   const unsigned char* memory, SharedTile<kWidth> tile, int first,
                                   int rows, float (&sums)[kRowTiles][kTiles][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const T* from = reinterpret_cast<const T*>(memory + tile.base);
#pragma unroll 1
  for (int row = 0; row < rows; ++row) {
    const int c = row / 8 * 2 + row % 2, holder = (lane & ~3) | row / 2 % 4;
#pragma unroll
    for (int r = 0; r < 2 * kRowTiles; ++r) {
      float weight = 0;
      bool meets = false;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (k != c) continue;
        weight = weights[r / 2 * 2 + k / 2][r % 2 * 2 + k % 2];
        meets = counts[r / 2 * 2 + k / 2][r % 2 * 2 + k % 2] > 0;
      }
      weight = __shfl_sync(kFullWarp, weight, holder);
      meets = __shfl_sync(kFullWarp, meets, holder);
      if (!meets) continue;
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const T* pair = from + SharedTile<kWidth>::offset(first + row, n) / 2 + lane % 4 * 2;
        sums[r / 2][n][r % 2 * 2] += weight * widen(pair[0]);
        sums[r / 2][n][r % 2 * 2 + 1] += weight * widen(pair[1]);
      }
    }
  }
}

// Sums of one block; `wanted`: of kAny, its entry in the list.
template <class T, int kWidth, Sum kSum, Gradient kGradient, Numbers kNumbers>
__device__ __forceinline__ void add_block(const Pass& a, int64_t block, int64_t wanted) {
  using Memory = cuda::Memory<T, kWidth, kSum, kGradient>;
  using Engine = typename Memory::Engine;
  using Tile = SharedTile<kWidth>;
  static_assert(Engine::kFixedRows == kFixedRows && Engine::kMovingRows == kTileRows);
  constexpr int kThreads = Engine::kThreads, kRowTiles = Engine::kRowTiles;
  constexpr int kSteps = kWidth / 16, kOwnRows = 2 * kRowTiles;  // of a thread
  constexpr bool kRows = kSum != Sum::kValues, kBoth = kSum == Sum::kBoth, kTrue = Memory::kTrue;
  // Half has the range of what is summed, not of what that is a share of.
  constexpr bool kFactorFirst = kRows && !kTrue && std::is_same_v<T, Float16>;
  extern __shared__ __align__(1024) unsigned char memory[];
  const uint32_t shared = shared_address(memory);
  const PairSide &fixed_side = a.sums.fixed, &moving_side = a.sums.moving;

  int64_t head = block / a.tiles.total;
  auto [b, tile] = a.tiles[block % a.tiles.total];
  if (a.order) {
    const int64_t per_head = a.tiles.per_sequence, heads = a.sums.fixed_codes.heads;
    b = a.first_sequence + a.order[block / per_head / heads];
    head = block / per_head % heads;
    tile = block % per_head;
  }
  const auto fixed = fixed_side[b], moving = moving_side[b];
  const int64_t first = tile * kFixedRows;
  if (first >= fixed.count || a.is_left_out(fixed, moving)) return;
  const int tid = static_cast<int>(threadIdx.x), lane = tid % kWarp;
  const int warp_row = tid / kWarp * 16 * kRowTiles;

  FixedFragments<kRowTiles, kRows ? kSteps : 1> values;
  FixedFragments<kRowTiles, kTrue ? kSteps : 1> rows;
  CosineScale scales[kOwnRows];
  const auto load = [&](const ConstArray& from, auto& to) {
    copy_tile<T, kFixedRows, kThreads>(from, fixed, head, first, Tile{shared});
    wait_for_copies();
    __syncthreads();
    load_fixed(Tile{shared}, to);
    __syncthreads();
  };
  if constexpr (kRows) load(fixed_side.values, values);
  if constexpr (kTrue) {
    load(fixed_side.rows, rows);
#pragma unroll
    for (int r = 0; r < kOwnRows; ++r) {
      const int64_t i = first + warp_row + 8 * r + lane / 4;
      if (fixed_side.scale.data && i < fixed.count) {
        scales[r] = CosineScale(fixed_side.scale.row<float>(fixed.batch, head, 0)[fixed[i]]);
      }
    }
  }
  const auto copy_words = [&](uint32_t to, const uint32_t* from, int words) {
    for (int i = 4 * tid; i < words; i += 4 * kThreads) copy_async<16>(to + 4 * i, from + i, true);
  };
  copy_words(shared + Memory::own(a), a.planes_of_block(b, head, tile), a.block_words);

  // The next tile of the moving side to copy: head by head, in the order of real rows.
  const int64_t end_head = a.first_head(head) + (moving.count == 0 ? 0 : a.heads());
  const int64_t tiles = ceil_div(moving.count, int64_t{kTileRows});
  int64_t next_head = a.first_head(head), next_tile = 0;
  const auto copy_next = [&](int stage) {
    if (next_head == end_head) return;
    const int64_t row = next_tile * kTileRows;
    const Tile to{shared + stage * Memory::kStageBytes};
    copy_tile<T, kTileRows, kThreads>(moving_side.values, moving, next_head, row, to);
    copy_words(shared + Memory::planes(a, stage), a.planes_of_tile(b, next_head, next_tile),
               a.tile_words);
    if constexpr (kRows) {
      copy_tile<T, kTileRows, kThreads>(moving_side.rows, moving, next_head, row,
                                        Tile{to.base + Memory::kTileBytes});
      if (moving_side.scale.data && tid < kTileRows) {
        const bool there = row + tid < moving.count;
        const float* scale = moving_side.scale.row<float>(moving.batch, next_head, 0);
        copy_async<4>(shared + Memory::scales(a, stage) + 4 * tid,
                      there ? scale + moving[row + tid] : scale, there);
      }
    }
    if (++next_tile == tiles) {
      next_tile = 0;
      ++next_head;
    }
  };

  const int hashes = static_cast<int>(a.sums.fixed_codes.rows);
  const int size = kHashesOfWord / a.pack;
  Planes planes{.own = reinterpret_cast<const uint32_t*>(memory + Memory::own(a)) + warp_row +
                       lane / 4 * kOwnRows,
                .other = nullptr,
                .words = a.words,
                .bits = static_cast<int>(a.sums.code_bits),
                .unused = 0};
  for (int i = hashes - (a.words - 1) * kHashesOfWord; i < size; ++i) {
    for (int k = 0; k < a.pack; ++k) planes.unused |= 1u << (k * size + i);
  }
  const float all = kZeroAsFloat + static_cast<float>(a.words * size);
  const auto count_of = [&](uint32_t different) { return all - __uint_as_float(different); };

  const int places = 16 / a.pack;  // of 16 moving rows, in words
  const float factor = a.sums.factor;
  typename Engine::Sums sums = {};  // of rows, or of values alone
  float value_sums[kBoth ? kRowTiles : 1][kBoth ? 2 * kSteps : 1][4] = {};
  int stage = 0;
  copy_next(0);
  for (int64_t other = a.first_head(head); other < end_head; ++other) {
    for (int64_t t = 0; t < tiles; ++t, stage = 1 - stage) {
      wait_for_copies();
      __syncthreads();
      copy_next(1 - stage);
      const Tile moving_values{shared + stage * Memory::kStageBytes};
      const Tile moving_rows{moving_values.base + Memory::kTileBytes};  // where there are
      planes.other = reinterpret_cast<const uint32_t*>(memory + Memory::planes(a, stage)) +
                     lane % 4 * (places / 4);
#pragma unroll 1
      for (int j = 0; j < kTileRows; j += 16, planes.other += places) {
        uint32_t different[kOwnRows][4];  // of rows lane / 4 + 8 r
        if (a.pack == 1) count_different<1>(planes, different);
        if (a.pack == 2) count_different<2>(planes, different);
        if (a.pack == 4) count_different<4>(planes, different);
        typename Engine::Products x, counts;
#pragma unroll
        for (int i = 0; i < 4 * kOwnRows; ++i) {
          const int r = i / 4, c = i % 4;
          counts[r / 2 * 2 + c / 2][r % 2 * 2 + c % 2] = count_of(different[r][c]);
        }
        constexpr bool kFinite = kNumbers == Numbers::kFinite;
        if constexpr (kFinite && kBoth) {
          Engine::add_products(counts, moving_values, j, value_sums);
        }
        if constexpr (kFinite && !kRows) {
          Engine::add_products(counts, moving_values, j, sums);
        }
        if constexpr (kRows) {
          const float* moving_scales = reinterpret_cast<const float*>(memory) +
                                       Memory::scales(a, stage) / 4 + j + lane % 4 * 2;
          Engine::multiply(values, moving_values, j, x);
          if constexpr (kTrue) {
            typename Engine::Products cosines;
            Engine::multiply(rows, moving_rows, j, cosines);
            if (moving_side.scale.data) scale_columns<kRowTiles>(cosines, moving_scales);
            a.weight.weigh(cosines, scales, x);
#pragma unroll
            for (int i = 0; i < 4 * kOwnRows; ++i) {
              if (counts[i / 4][i % 4] == 0) x[i / 4][i % 4] = 0;
            }
          } else {
#pragma unroll
            for (int i = 0; i < 4 * kOwnRows; ++i) {
              const float count = counts[i / 4][i % 4];
              x[i / 4][i % 4] *= kFactorFirst ? factor * count : count;
            }
          }
          if (moving_side.scale.data) scale_columns<kRowTiles>(x, moving_scales);
          if constexpr (kFinite) Engine::add_products(x, moving_rows, j, sums);
        }
        if constexpr (!kFinite) {
          const int rows = static_cast<int>(min(int64_t{16}, moving.count - t * kTileRows - j));
          if constexpr (kRows)
            add_meeting<T>(counts, x, memory - shared, moving_rows, j, rows, sums);
          if constexpr (kBoth) {
            add_meeting<T>(counts, counts, memory - shared, moving_values, j, rows, value_sums);
          } else if constexpr (!kRows) {
            add_meeting<T>(counts, counts, memory - shared, moving_values, j, rows, sums);
          }
        }
      }
    }
  }
  int64_t spoiled = 0;
  if constexpr (kNumbers == Numbers::kFinite) {
    if (is_spoiled(sums)) spoiled |= kSpoiledSums;
    if (kBoth && is_spoiled(value_sums)) spoiled |= kSpoiledValues;
    if (tid == 0 && spoiled != 0) {
      const auto number = atomicAdd(reinterpret_cast<unsigned long long*>(a.spoiled), 1ull);
      a.spoiled[1 + number] = block | spoiled;
    }
  } else {
    spoiled = ~wanted;  // the others were right and are stored
  }
  if (kBoth && (spoiled & kSpoiledValues) == 0) {
    store_sums(value_sums, a.sums.value_factor, fixed, head, first + warp_row, a.sums.values_out);
  }
  if (spoiled & kSpoiledSums) return;

  const float rest = kFactorFirst ? 1.0f : factor;
  if (kRows && a.sums.of_rows) {
#pragma unroll
    for (int r = 0; r < kOwnRows; ++r) {
      const int64_t i = first + warp_row + 8 * r + lane / 4;
      const bool exists = i < fixed.count;
      const int64_t row = exists ? fixed[i] : 0;
      const int64_t from = fixed.batch * a.own_rows.batch_stride + head * a.own_rows.head_stride +
                           row * a.own_rows.row_stride + lane % 4 * 2;
      float grad[2 * kSteps][2], own[2 * kSteps][2];
#pragma unroll
      for (int n = 0; n < 2 * kSteps; ++n) {
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const bool in_row = exists && 8 * n + lane % 4 * 2 + k < a.own_rows.cols;
          own[n][k] = in_row ? widen(static_cast<const T*>(a.own_rows.data)[from + 8 * n + k]) : 0;
          grad[n][k] = rest * sums[r / 2][n][r % 2 * 2 + k];
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
#pragma unroll
        for (int k = 0; k < 2; ++k) sums[r / 2][n][r % 2 * 2 + k] = grad[n][k];
      }
    }
  }
  store_sums(sums, kRows && a.sums.of_rows ? 1.0f : rest, fixed, head, first + warp_row,
             a.sums.out);
}

template <class Memory, Numbers kNumbers>
constexpr int kBlocks = kNumbers == Numbers::kAny ? 1 : Memory::kBlocks;

template <class T, int kWidth, Sum kSum, Gradient kGradient, Numbers kNumbers>
__global__ void __launch_bounds__(Memory<T, kWidth, kSum, kGradient>::Engine::kThreads,
                                  kBlocks<Memory<T, kWidth, kSum, kGradient>, kNumbers>)
    add_collisions(Pass a) {
  if constexpr (kNumbers == Numbers::kFinite) {
    add_block<T, kWidth, kSum, kGradient, kNumbers>(a, blockIdx.x, 0);
  } else {
    for (int64_t i = blockIdx.x; i < a.spoiled[0]; i += gridDim.x) {
      const int64_t item = a.spoiled[1 + i];
      add_block<T, kWidth, kSum, kGradient, kNumbers>(a, item & kSpoiledBlock, item);
      __syncthreads();
    }
  }
}

// Planes of the sequences in flight stay below this.
constexpr int64_t kBytesInFlight = int64_t{1} << 28;

Pass pass_of(const CollisionSums& sums) {
  const int64_t hashes = sums.moving_codes.rows;
  Pass a{.sums = sums, .weight = {static_cast<double>(sums.code_bits), sums.gradient}};
  a.words = static_cast<int>(ceil_div(hashes, int64_t{kHashesOfWord}));
  a.pack = hashes <= 8 ? 4 : hashes <= 16 ? 2 : 1;
  const int planes = a.words * static_cast<int>(sums.code_bits);
  a.block_words = planes * kFixedRows;
  a.tile_words = planes * kTileRows / a.pack;
  return a;
}

template <class T, Sum kSum, Gradient kGradient = Gradient::kSurrogate>
void run(const char* op, const CollisionSums& of, const GpuSide& fixed, const GpuSide& moving,
         Stream& stream) {
  Pass a = pass_of(of);
  CollisionSums& sums = a.sums;
  a.own_rows = sums.fixed.rows;
  a.own_scale = sums.fixed.scale;
  pack_where_needed<T>(op, sums.moving.values, stream);
  int64_t width = sums.moving.values.cols;
  if (kSum != Sum::kValues) {
    pack_where_needed<T>(op, sums.fixed.values, stream);
    pack_where_needed<T>(op, sums.moving.rows, stream, &sums.moving.scale);
    if (kGradient == Gradient::kTrue) {
      pack_where_needed<T>(op, sums.fixed.rows, stream, &sums.fixed.scale);
    }
    width = std::max(width, sums.moving.rows.cols);
  }
  a.row_tiles = with_width(
      width, [&]<int kWidth>() { return Memory<T, kWidth, kSum, kGradient>::Engine::kRowTiles; });
  const Tiles tiles = fixed.tiles(kFixedRows);
  const int64_t fixed_heads = sums.fixed_codes.heads, moving_heads = sums.moving_codes.heads;
  const auto pieces = [&](const GpuSide& side, int64_t rows) {
    return ceil_div(std::max<int64_t>(1, std::min(side.longest(), sums.up_to)), rows);
  };
  a.moving_tiles = pieces(moving, kTileRows);
  a.fixed_blocks = pieces(fixed, kFixedRows);
  const int64_t fixed_words = fixed_heads * a.fixed_blocks * a.block_words;
  const int64_t moving_words = moving_heads * a.moving_tiles * a.tile_words;
  const int64_t step = std::max<int64_t>(1, kBytesInFlight / (4 * (fixed_words + moving_words)));
  for (int64_t s = 0; s < fixed.sequences(); s += step) {
    const Stream::Scope scope(stream);
    const int64_t count = std::min(step, fixed.sequences() - s);
    a.first_sequence = s;
    a.tiles = fixed.slice(tiles, s, count);
    a.fixed_planes = stream.allocate<uint32_t>(count * fixed_words);
    a.moving_planes = stream.allocate<uint32_t>(count * moving_words);
    launch(op, stream.handle(), count * fixed_heads * a.fixed_blocks, kFixedRows, 0,
           cut_into_planes, a, false);
    launch(op, stream.handle(),
           count * moving_heads * ceil_div(a.moving_tiles * kTileRows, int64_t{kFixedRows}),
           kFixedRows, 0, cut_into_planes, a, true);
    a.order = nullptr;
    if (moving.certain_rows() == 0 && tiles.first == nullptr && count <= kMostOrdered) {
      int32_t* order = stream.allocate<int32_t>(count);
      launch(op, stream.handle(), 1, kMostOrdered, 0, order_by_length, a, static_cast<int>(count),
             order);
      a.order = order;
    }
    with_width(width, [&]<int kWidth>() {
      using Memory = cuda::Memory<T, kWidth, kSum, kGradient>;
      const int64_t blocks = fixed_heads * a.tiles.total;
      a.spoiled = stream.allocate<int64_t>(1 + blocks);
      throw_if_failed(op, cudaMemsetAsync(a.spoiled, 0, sizeof(*a.spoiled), stream.handle()));
      const auto add = [&](int64_t of_blocks, auto* kernel) {
        launch(op, stream.handle(), of_blocks, Memory::Engine::kThreads, Memory::bytes(a), kernel,
               a);
      };
      add(blocks, add_collisions<T, kWidth, kSum, kGradient, Numbers::kFinite>);
      add(std::min<int64_t>(blocks, kBlocksOfAny),
          add_collisions<T, kWidth, kSum, kGradient, Numbers::kAny>);
    });
  }
}

// A block a sequence.
constexpr int kThreads = 256;
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

int64_t pairs_up_to(int64_t hashes) { return std::max<int64_t>(512, 64 * hashes); }

int64_t true_pairs_up_to(int64_t hashes, int64_t code_bits) {
  // A visit costs as much as this many pairs; where there are so many buckets, tokens meet few.
  constexpr int64_t kPairsOfVisit = 256;
  return (int64_t{1} << code_bits) <= kPairsOfVisit * hashes ? INT64_MAX : pairs_up_to(hashes);
}

bool counts_collisions(Sum sum, const ConstArray& codes, int64_t code_bits, int64_t width) {
  if (codes.rows > kMaxCount || width > 128) return false;
  const Pass a = pass_of({.moving_codes = codes, .code_bits = code_bits});
  const auto bytes = [&]<Sum kSum>() {
    return with_width(width, [&]<int kWidth>() { return Memory<Float16, kWidth, kSum>::bytes(a); });
  };
  return max_shared_bytes() >= (sum == Sum::kValues ? bytes.template operator()<Sum::kValues>()
                                                    : bytes.template operator()<Sum::kBoth>());
}

void sum_collisions(const char* op, Sum sum, const CollisionSums& a, const GpuSide& fixed,
                    const GpuSide& moving, Stream& stream) {
  const Stream::Scope scope(stream);
  const auto of_type = [&]<class T>() {
    if (sum == Sum::kValues) run<T, Sum::kValues>(op, a, fixed, moving, stream);
    if (sum == Sum::kRows) {
      a.gradient == Gradient::kTrue
          ? run<T, Sum::kRows, Gradient::kTrue>(op, a, fixed, moving, stream)
          : run<T, Sum::kRows, Gradient::kSurrogate>(op, a, fixed, moving, stream);
    }
    if (sum == Sum::kBoth) run<T, Sum::kBoth>(op, a, fixed, moving, stream);
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
  // The GPU may know of shorter ones.
  if (queries.certain_rows() == 0 || keys.certain_rows() == 0) some_short = true;
}

Rows rows_of_long(const char* op, Rows rows, const PairSide& side, const PairSide& other,
                  int64_t up_to, Stream& stream) {
  const int64_t sequences = side.side.count(side.rows.batch);
  bool* mask = stream.allocate<bool>(side.rows.batch * side.rows.rows);
  launch(op, stream.handle(), sequences, kThreads, 0, mask_long, side, other, up_to, mask);
  rows.mask = mask;
  rows.mask_stride = side.rows.rows;
  return rows;
}

}  // namespace yoso::cuda
