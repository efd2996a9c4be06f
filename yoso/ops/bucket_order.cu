// SPDX-License-Identifier: Apache-2.0
#include "yoso/cuda/elements.h"
#include "yoso/cuda/launch.h"
#include "yoso/ops/bucket_order.h"
#include "yoso/ops/digit_sort.h"

namespace yoso::cuda {
namespace {

constexpr int kThreads = kSortThreads, kWarps = kSortWarps;
// Neighbours of the sequence that lanes of a first pass load: of a run of kRunRows, a warp places
// the first of every kNeighbours, then the second, and so on. Rows of one digit stand in that order
// however many rows a block has.
constexpr int kNeighbours = 16, kRunRows = kNeighbours * kWarp;
// A block has kPerLane rows a lane: kNeighbours, or fewer where all sequences are short, so that
// all its warps have rows.
template <int kPerLane>
constexpr int kTileRows = kPerLane* kThreads;
constexpr int kLongTile = kTileRows<kNeighbours>;

// One pass: rows of every segment by bits shift .. shift + 7 of their codes.
struct Pass {
  ConstArray codes;
  Rows side;
  Tiles tiles;
  BucketOrder order;
  int shift;
  const uint32_t* from;        // second pass: the order so far, laid out as `order`; else null
  const uint32_t* from_begin;  // [segments][kDigits + 1] of the first pass
  uint32_t* begin;             // [segments][kDigits + 1], of this pass
  uint32_t* counts;            // [heads * hashes][tiles][kDigits]: of a tile, then before it
};

// Where a block works.
struct Place {
  int64_t sequence, tile, head, hash, item;  // within the wave; item: of the tiles
};

__device__ Place place_of(const Pass& p, uint32_t block) {
  const auto hashes = static_cast<uint32_t>(p.order.wave.hashes);
  const auto heads = static_cast<uint32_t>(p.order.wave.heads);
  const int64_t hash = block % hashes, head = block / hashes % heads;
  const int64_t item = block / hashes / heads;
  const auto [sequence, tile] = p.tiles[item];
  return {sequence - p.order.wave.first_sequence, tile, head, hash, item};
}

template <class Code>
__device__ inline const Code* codes_of(const Pass& p, const Place& at, const Sequence& sequence) {
  const Wave& wave = p.order.wave;
  return p.codes.row<Code>(sequence.batch, wave.first_head + at.head, wave.first_hash + at.hash) +
         sequence.begin;
}

__device__ inline Sequence sequence_of(const Pass& p, const Place& at) {
  return yoso::sequence(p.side, p.order.wave.first_sequence + at.sequence, p.codes.cols);
}

// Of a first pass: kPerLane neighbours a lane.
template <class Code, int kPerLane>
__device__ Loaded<kPerLane> load_first(const Pass& p, const Place& at) {
  constexpr int kWarpsPerRun = kNeighbours / kPerLane;
  const Sequence sequence = sequence_of(p, at);
  const Code* codes = codes_of<Code>(p, at, sequence);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t mine = at.tile * kTileRows<kPerLane> + warp / kWarpsPerRun * kRunRows +
                       lane * kNeighbours + warp % kWarpsPerRun * kPerLane;
  constexpr int kPerWord = 4 / sizeof(Code);
  using Words = Vec<uint32_t, kPerLane / kPerWord>;
  Loaded<kPerLane> loaded;
  if (mine + kPerLane <= sequence.rows && sequence.mask == nullptr &&
      reinterpret_cast<uintptr_t>(codes + mine) % alignof(Words) == 0) {
    const auto words = Words::load(reinterpret_cast<const uint32_t*>(codes + mine));
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) {
      const uint32_t word = words.at[k / kPerWord] >> (k % kPerWord * 8 * sizeof(Code));
      loaded.codes[k] = static_cast<Code>(word);
    }
  } else {
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) {
      const bool real = mine + k < sequence.rows && sequence.is_real(mine + k);
      loaded.codes[k] = real ? codes[mine + k] : kNoRow;
    }
  }
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) loaded.rows[k] = static_cast<uint32_t>(mine + k);
  return loaded;
}

// Of a second pass: slots k * 32 + lane of the first one, so that a warp that places them one k
// after the other keeps their order, as a second pass must.
__device__ inline Loaded<kNeighbours> load_second(const Pass& p, const Place& at) {
  const uint16_t* codes = codes_of<uint16_t>(p, at, sequence_of(p, at));
  const uint32_t* from = p.from + p.order.base(at.sequence, at.head, at.hash);
  const int64_t count =
      p.from_begin[p.order.segment(at.sequence, at.head, at.hash) * (kDigits + 1) + kDigits];
  const int64_t first =
      at.tile * kLongTile + int64_t{threadIdx.x} / kWarp * kRunRows + threadIdx.x % kWarp;
  Loaded<kNeighbours> loaded;
#pragma unroll
  for (int k = 0; k < kNeighbours; ++k) {
    const int64_t i = first + k * kWarp;
    loaded.rows[k] = i < count ? from[i] : 0;
    loaded.codes[k] = i < count ? codes[loaded.rows[k]] : kNoRow;
  }
  return loaded;
}

// Counts a tile; with kPlace also sorts it and writes its rows to their slots. Sequences of one
// tile (p.counts is null) are done then. Longer ones take three launches: count, scan_tiles, place.
template <class Code, bool kSecond, bool kPlace, int kPerLane>
__global__ void __launch_bounds__(kThreads, 4) sort_tile(Pass p) {
  __shared__ uint32_t starts[kWarps][kDigits], warp_sums[kWarps];
  __shared__ uint32_t total, shifts[kDigits];  // from a slot of the tile to one of the segment
  __shared__ uint32_t sorted[kPlace ? kTileRows<kPerLane> : 1];
  __shared__ uint8_t sorted_digits[kPlace ? kTileRows<kPerLane> : 1];
  const Place at = place_of(p, blockIdx.x);
  Loaded<kPerLane> loaded;
  if constexpr (kSecond) {
    loaded = load_second(p, at);
  } else {
    loaded = load_first<Code, kPerLane>(p, at);
  }
  const uint32_t count = count_digits(loaded, p.shift, starts);
  const int64_t line = (at.head * p.order.wave.hashes + at.hash) * p.tiles.total + at.item;
  uint32_t* counts = p.counts ? p.counts + line * kDigits + threadIdx.x : nullptr;
  if constexpr (!kPlace) {
    *counts = count;
    return;
  }
  const uint32_t first = sum_before(count, warp_sums);
  shifts[threadIdx.x] = counts ? *counts - first : 0;
  if (counts == nullptr) {
    uint32_t* begin = p.begin + p.order.segment(at.sequence, at.head, at.hash) * (kDigits + 1);
    begin[threadIdx.x] = first;
    if (threadIdx.x == kDigits - 1) begin[kDigits] = first + count;
  }
  for (int w = 0; w < kWarps; ++w) starts[w][threadIdx.x] += first;
  if (threadIdx.x == kDigits - 1) total = first + count;
  __syncthreads();

  const int64_t base = p.order.base(at.sequence, at.head, at.hash);
  uint32_t slots[kPerLane];
  find_slots(loaded, p.shift, starts[threadIdx.x / kWarp], slots);
  bool whole = true;
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) {
    whole = whole && loaded.codes[k] != kNoRow;
    if (loaded.codes[k] == kNoRow) continue;
    const uint32_t digit = digit_of(loaded.codes[k], p.shift);
    sorted[slots[k]] = loaded.rows[k];
    sorted_digits[slots[k]] = static_cast<uint8_t>(digit);
    slots[k] += shifts[digit];
  }
  if (p.order.slots) {
    uint32_t* to = p.order.slots + base + loaded.rows[0];
    if (!kSecond && whole && reinterpret_cast<uintptr_t>(to) % 16 == 0) {
#pragma unroll
      for (int k = 0; k < kPerLane; k += 4) {
        *reinterpret_cast<uint4*>(to + k) = {slots[k], slots[k + 1], slots[k + 2], slots[k + 3]};
      }
    } else {
#pragma unroll
      for (int k = 0; k < kPerLane; ++k) {
        if (loaded.codes[k] != kNoRow) p.order.slots[base + loaded.rows[k]] = slots[k];
      }
    }
  }
  __syncthreads();
  for (uint32_t slot = threadIdx.x; slot < total; slot += kThreads) {
    p.order.rows[base + slot + shifts[sorted_digits[slot]]] = sorted[slot];
  }
}

// Codes of more than eight bits of sequences of one tile: both passes, and where buckets begin.
template <int kPerLane>
__global__ void __launch_bounds__(kThreads, 4) sort_short(Pass p) {
  constexpr int kRows = kTileRows<kPerLane>;
  __shared__ uint32_t starts[kWarps][kDigits], warp_sums[kWarps], total;
  __shared__ uint16_t codes[kRows], rows[kRows], slot_of[kRows];
  const Place at = place_of(p, blockIdx.x);
  const int warp = threadIdx.x / kWarp;
  uint32_t* begin =
      p.order.begin + p.order.segment(at.sequence, at.head, at.hash) * p.order.begin_stride;
  Loaded<kPerLane> loaded = load_first<uint16_t, kPerLane>(p, at);
  bool any = false;
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) any = any || loaded.codes[k] != kNoRow;
  if (!__syncthreads_or(any)) {  // a short sequence among long ones, which goes pair by pair
    for (int64_t s = threadIdx.x; s <= p.order.buckets; s += kThreads) begin[s] = 0;
    return;
  }
  uint32_t slots[kPerLane];
#pragma unroll
  for (int shift = 0; shift <= 8; shift += 8) {
    const uint32_t count = count_digits(loaded, shift, starts);
    const uint32_t first = sum_before(count, warp_sums);
    for (int w = 0; w < kWarps; ++w) starts[w][threadIdx.x] += first;
    if (threadIdx.x == kDigits - 1) total = first + count;
    __syncthreads();
    find_slots(loaded, shift, starts[warp], slots);
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) {
      if (loaded.codes[k] == kNoRow) continue;
      rows[slots[k]] = static_cast<uint16_t>(loaded.rows[k]);
      if (shift == 0) {
        codes[loaded.rows[k]] = static_cast<uint16_t>(loaded.codes[k]);
      } else {
        slot_of[loaded.rows[k]] = static_cast<uint16_t>(slots[k]);
      }
    }
    __syncthreads();
    if (shift > 0) break;
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) {
      const uint32_t i = (warp * kPerLane + k) * kWarp + threadIdx.x % kWarp;
      loaded.rows[k] = i < total ? rows[i] : 0;
      loaded.codes[k] = i < total ? codes[loaded.rows[k]] : kNoRow;
    }
    __syncthreads();
  }

  const int64_t base = p.order.base(at.sequence, at.head, at.hash);
  for (uint32_t i = threadIdx.x; i < total; i += kThreads) p.order.rows[base + i] = rows[i];
  if (p.order.slots) {
    const Sequence sequence = sequence_of(p, at);
    for (int64_t i = threadIdx.x; i < sequence.rows; i += kThreads) {
      if (sequence.is_real(i)) p.order.slots[base + i] = slot_of[i];
    }
  }
  for (uint32_t i = threadIdx.x; i <= total; i += kThreads) {
    const int from = i == 0 ? 0 : codes[rows[i - 1]] + 1;
    const int to = i == total ? static_cast<int>(p.order.buckets) : codes[rows[i]];
    for (int s = from; s <= to; ++s) begin[s] = i;
  }
}

// Turns the counts of a segment's tiles into the slots where they begin.
__global__ void __launch_bounds__(kThreads) scan_tiles(Pass p) {
  __shared__ uint32_t warp_sums[kWarps];
  const Wave& wave = p.order.wave;
  const int64_t hash = blockIdx.x % wave.hashes, head = blockIdx.x / wave.hashes % wave.heads;
  const int64_t sequence = blockIdx.x / wave.hashes / wave.heads;
  int64_t first = sequence * p.tiles.per_sequence, last = first + p.tiles.per_sequence;
  if (p.tiles.first) {
    first = p.tiles.first[wave.first_sequence + sequence] - p.tiles.first_tile;
    last = p.tiles.first[wave.first_sequence + sequence + 1] - p.tiles.first_tile;
  }
  uint32_t* counts = p.counts + (head * wave.hashes + hash) * p.tiles.total * kDigits + threadIdx.x;
  uint32_t total = 0;
#pragma unroll 8
  for (int64_t tile = first; tile < last; ++tile) total += counts[tile * kDigits];
  uint32_t next = sum_before(total, warp_sums);
  uint32_t* begin = p.begin + p.order.segment(sequence, head, hash) * (kDigits + 1);
  begin[threadIdx.x] = next;
  if (threadIdx.x == kDigits - 1) begin[kDigits] = next + total;
#pragma unroll 8
  for (int64_t tile = first; tile < last; ++tile) {
    const uint32_t count = counts[tile * kDigits];
    counts[tile * kDigits] = next;
    next += count;
  }
}

template <class Code, bool kSecond, int kPerLane>
void run(const char* op, const Pass& pass, Stream& stream) {
  const Wave& wave = pass.order.wave;
  const int64_t blocks = pass.tiles.total * wave.heads * wave.hashes;
  if (pass.counts) {
    launch(op, stream.handle(), blocks, kThreads, 0, sort_tile<Code, kSecond, false, kPerLane>,
           pass);
    launch(op, stream.handle(), wave.segments(), kThreads, 0, scan_tiles, pass);
  }
  launch(op, stream.handle(), blocks, kThreads, 0, sort_tile<Code, kSecond, true, kPerLane>, pass);
}

// Calls f.template operator()<kPerLane>() for tiles that hold `rows` rows, if any do.
template <class F>
void with_rows_per_lane(int64_t rows, F&& f) {
  if (rows <= kTileRows<4>) {
    f.template operator()<4>();
  } else if (rows <= kTileRows<8>) {
    f.template operator()<8>();
  } else {
    f.template operator()<kNeighbours>();
  }
}

// begin[s] of codes with more than eight bits: a row whose code is the first above those before it
// begins every bucket from there to its own.
__global__ void find_begins(Pass p) {
  const Place at = place_of(p, blockIdx.x);
  const uint16_t* codes = codes_of<uint16_t>(p, at, sequence_of(p, at));
  const int64_t segment = p.order.segment(at.sequence, at.head, at.hash);
  const uint32_t* rows = p.order.rows + p.order.base(at.sequence, at.head, at.hash);
  const int64_t count = p.from_begin[segment * (kDigits + 1) + kDigits];
  uint32_t* begin = p.order.begin + segment * p.order.begin_stride;
  const int64_t last_tile = count == 0 ? 0 : (count - 1) / kLongTile;
  if (at.tile > last_tile) return;
  const int64_t end = min((at.tile + 1) * int64_t{kLongTile}, count);
  for (int64_t i = at.tile * kLongTile + threadIdx.x; i <= end; i += kThreads) {
    if (i == end && i < count) break;  // the next tile's
    const int64_t from = i == 0 ? 0 : codes[rows[i - 1]] + int64_t{1};
    const int64_t to = i == count ? p.order.buckets : int64_t{codes[rows[i]]};
    for (int64_t s = from; s <= to; ++s) begin[s] = static_cast<uint32_t>(i);
  }
}

}  // namespace

BucketOrder sort_by_code(const char* op, const ConstArray& codes, const GpuSide& side,
                         const Wave& wave, int64_t code_bits, bool want_slots, Stream& stream) {
  if (side.longest() > INT32_MAX) {
    fail(op, ": a sequence has ", side.longest(), " rows, expected at most ", INT32_MAX,
         " on a GPU");
  }
  BucketOrder order{.wave = wave,
                    .buckets = int64_t{1} << code_bits,
                    .wave_rows = side.rows_of(wave.first_sequence, wave.sequences),
                    .first_row = side.first_row(wave.first_sequence),
                    .row_extent = side.row_extent(),
                    .offsets = side.has_host_offsets() ? side.rows().offsets : nullptr};
  const int64_t places = order.wave_rows * wave.heads * wave.hashes;
  order.rows = stream.allocate<uint32_t>(places);
  order.slots = want_slots ? stream.allocate<uint32_t>(places) : nullptr;
  const bool two_passes = code_bits > 8, one_tile = side.longest() <= kLongTile;
  order.begin_stride = (two_passes ? order.buckets : kDigits) + 1;
  order.begin = stream.allocate<uint32_t>(wave.segments() * order.begin_stride);

  Pass pass{.codes = codes, .side = side.rows(), .order = order, .shift = 0, .begin = order.begin};
  const auto tiles_of = [&](int64_t rows) {
    return side.slice(side.tiles(rows), wave.first_sequence, wave.sequences);
  };
  if (one_tile) {
    with_rows_per_lane(side.longest(), [&]<int kPerLane>() {
      pass.tiles = tiles_of(kTileRows<kPerLane>);
      if (two_passes) {
        launch(op, stream.handle(), pass.tiles.total * wave.heads * wave.hashes, kThreads, 0,
               sort_short<kPerLane>, pass);
      } else {
        run<uint8_t, false, kPerLane>(op, pass, stream);
      }
    });
    return order;
  }
  pass.tiles = tiles_of(kLongTile);
  pass.counts = stream.allocate<uint32_t>(pass.tiles.total * wave.heads * wave.hashes * kDigits);
  if (!two_passes) {
    run<uint8_t, false, kNeighbours>(op, pass, stream);
    return order;
  }
  // The first pass writes beside the second, and needs no slots.
  Pass second = pass;
  pass.order.rows = stream.allocate<uint32_t>(places);
  pass.order.slots = nullptr;
  pass.begin = stream.allocate<uint32_t>(wave.segments() * (kDigits + 1));
  run<uint16_t, false, kNeighbours>(op, pass, stream);
  second.shift = 8;
  second.from = pass.order.rows;
  second.from_begin = pass.begin;
  second.begin = stream.allocate<uint32_t>(wave.segments() * (kDigits + 1));
  run<uint16_t, true, kNeighbours>(op, second, stream);
  launch(op, stream.handle(), pass.tiles.total * wave.heads * wave.hashes, kThreads, 0, find_begins,
         second);
  return order;
}

}  // namespace yoso::cuda
