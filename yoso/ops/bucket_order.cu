// SPDX-License-Identifier: Apache-2.0
#include "yoso/cuda/launch.h"
#include "yoso/ops/bucket_order.h"

namespace yoso::cuda {
namespace {

constexpr int kDigits = 256;  // of one pass
constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kRowsPerLane = 16, kRowsPerWarp = kRowsPerLane * kWarp;
constexpr int kTileRows = kRowsPerWarp * kWarps;
static_assert(kThreads == kDigits, "a thread a digit");

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

__device__ Place place_of(const Pass& p, int64_t block) {
  const int64_t hash = block % p.order.wave.hashes;
  const int64_t head = block / p.order.wave.hashes % p.order.wave.heads;
  const int64_t item = block / p.order.wave.hashes / p.order.wave.heads;
  const auto [sequence, tile] = p.tiles[item];
  return {sequence - p.order.wave.first_sequence, tile, head, hash, item};
}

// Rows and digits that a lane has loaded; a digit of kDigits: no row.
struct Loaded {
  uint32_t rows[kRowsPerLane], digits[kRowsPerLane];
};

// First pass: 16 neighbours a lane, of which most need one load. Second pass: slots k * 32 + lane,
// so that a warp that places them one k after the other keeps their order, as a second pass must.
template <class Code, bool kSecond>
__device__ Loaded load_tile(const Pass& p, const Place& at) {
  const Wave& wave = p.order.wave;
  const Sequence sequence = yoso::sequence(p.side, wave.first_sequence + at.sequence, p.codes.cols);
  const Code* codes =
      p.codes.row<Code>(sequence.batch, wave.first_head + at.head, wave.first_hash + at.hash) +
      sequence.begin;
  const int lane = threadIdx.x % kWarp;
  const int64_t first = at.tile * kTileRows + int64_t{threadIdx.x} / kWarp * kRowsPerWarp;
  Loaded loaded;
  if constexpr (kSecond) {
    const uint32_t* from = p.from + p.order.base(at.sequence, at.head, at.hash);
    const int64_t count =
        p.from_begin[p.order.segment(at.sequence, at.head, at.hash) * (kDigits + 1) + kDigits];
#pragma unroll
    for (int k = 0; k < kRowsPerLane; ++k) {
      const int64_t i = first + k * kWarp + lane;
      loaded.rows[k] = i < count ? from[i] : 0;
      loaded.digits[k] = i < count ? uint32_t{codes[loaded.rows[k]]} >> p.shift : kDigits;
    }
    return loaded;
  }
  const int64_t mine = first + lane * kRowsPerLane;
  if (mine + kRowsPerLane <= sequence.rows && sequence.mask == nullptr &&
      reinterpret_cast<uintptr_t>(codes + mine) % 16 == 0) {
    constexpr int kPerLoad = 16 / sizeof(Code);
#pragma unroll
    for (int k = 0; k < kRowsPerLane; k += kPerLoad) {
      const uint4 words = *reinterpret_cast<const uint4*>(codes + mine + k);
      const uint32_t all[] = {words.x, words.y, words.z, words.w};
#pragma unroll
      for (int c = 0; c < kPerLoad; ++c) {
        constexpr int kPerWord = 4 / sizeof(Code);
        loaded.digits[k + c] =
            all[c / kPerWord] >> (c % kPerWord * 8 * sizeof(Code)) & (kDigits - 1);
      }
    }
  } else {
#pragma unroll
    for (int k = 0; k < kRowsPerLane; ++k) {
      const bool real = mine + k < sequence.rows && sequence.is_real(mine + k);
      loaded.digits[k] = real ? codes[mine + k] & (kDigits - 1) : kDigits;
    }
  }
#pragma unroll
  for (int k = 0; k < kRowsPerLane; ++k) loaded.rows[k] = static_cast<uint32_t>(mine + k);
  return loaded;
}

// starts[w][s]: how many rows of digit s stand before those of warp w in this tile; returns how
// many this thread's digit has in the tile.
__device__ uint32_t count_digits(const Loaded& loaded, uint32_t (&starts)[kWarps][kDigits]) {
  for (int w = 0; w < kWarps; ++w) starts[w][threadIdx.x] = 0;
  __syncthreads();
#pragma unroll
  for (const uint32_t digit : loaded.digits) {
    if (digit < kDigits) atomicAdd(&starts[threadIdx.x / kWarp][digit], 1u);
  }
  __syncthreads();
  uint32_t total = 0;
  for (int w = 0; w < kWarps; ++w) {
    const uint32_t mine = starts[w][threadIdx.x];
    starts[w][threadIdx.x] = total;
    total += mine;
  }
  return total;
}

// The sum of `count` over the threads before this one.
__device__ uint32_t sum_before(uint32_t count, uint32_t (&warp_sums)[kWarps]) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  uint32_t sum = count;
  for (int step = 1; step < kWarp; step *= 2) {
    const uint32_t below = __shfl_up_sync(kFullWarp, sum, step);
    if (lane >= step) sum += below;
  }
  if (lane == kWarp - 1) warp_sums[warp] = sum;
  __syncthreads();
  for (int w = 0; w < warp; ++w) sum += warp_sums[w];
  return sum - count;
}

// Counts a tile; with kPlace also sorts it and writes its rows to their slots. Sequences of one
// tile (p.counts is null) are done then. Longer ones take three launches: count, scan_tiles, place.
template <class Code, bool kSecond, bool kPlace>
__global__ void __launch_bounds__(kThreads, 4) sort_tile(Pass p) {
  __shared__ uint32_t starts[kWarps][kDigits], warp_sums[kWarps];
  __shared__ uint32_t total, shifts[kDigits];  // from a slot of the tile to one of the segment
  __shared__ uint32_t sorted[kPlace ? kTileRows : 1];
  __shared__ uint8_t sorted_digits[kPlace ? kTileRows : 1];
  const Place at = place_of(p, blockIdx.x);
  const Loaded loaded = load_tile<Code, kSecond>(p, at);
  const uint32_t count = count_digits(loaded, starts);
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
  uint32_t slots[kRowsPerLane];
  uint32_t* mine = starts[threadIdx.x / kWarp];
  const unsigned before = (1u << threadIdx.x % kWarp) - 1;
#pragma unroll
  for (int k = 0; k < kRowsPerLane; ++k) {
    const uint32_t digit = loaded.digits[k];
    const unsigned peers = __match_any_sync(kFullWarp, digit);
    const bool real = digit < kDigits;
    const uint32_t start = real ? mine[digit] : 0;
    __syncwarp();
    if (real) {
      const uint32_t slot = start + __popc(peers & before);
      sorted[slot] = loaded.rows[k];
      sorted_digits[slot] = static_cast<uint8_t>(digit);
      if ((peers & before) == 0) mine[digit] = start + __popc(peers);
      slots[k] = slot + shifts[digit];
    }
    __syncwarp();
  }
  if (p.order.slots) {
    uint32_t* to = p.order.slots + base + loaded.rows[0];
    bool neighbours = !kSecond && reinterpret_cast<uintptr_t>(to) % 16 == 0;
    for (const uint32_t digit : loaded.digits) neighbours = neighbours && digit < kDigits;
    if (neighbours) {
#pragma unroll
      for (int k = 0; k < kRowsPerLane; k += 4) {
        *reinterpret_cast<uint4*>(to + k) = {slots[k], slots[k + 1], slots[k + 2], slots[k + 3]};
      }
    } else {
#pragma unroll
      for (int k = 0; k < kRowsPerLane; ++k) {
        if (loaded.digits[k] < kDigits) p.order.slots[base + loaded.rows[k]] = slots[k];
      }
    }
  }
  __syncthreads();
  for (uint32_t slot = threadIdx.x; slot < total; slot += kThreads) {
    p.order.rows[base + slot + shifts[sorted_digits[slot]]] = sorted[slot];
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

template <class Code, bool kSecond>
void run(const char* op, const Pass& pass, Stream& stream) {
  const Wave& wave = pass.order.wave;
  const int64_t blocks = pass.tiles.total * wave.heads * wave.hashes;
  if (pass.counts) {
    launch(op, stream.handle(), blocks, kThreads, 0, sort_tile<Code, kSecond, false>, pass);
    launch(op, stream.handle(), wave.segments(), kThreads, 0, scan_tiles, pass);
  }
  launch(op, stream.handle(), blocks, kThreads, 0, sort_tile<Code, kSecond, true>, pass);
}

// begin[s] of codes with more than eight bits: a row whose code is the first above those before it
// begins every bucket from there to its own.
__global__ void find_begins(Pass p) {
  const Place at = place_of(p, blockIdx.x);
  const Wave& wave = p.order.wave;
  const Sequence sequence = yoso::sequence(p.side, wave.first_sequence + at.sequence, p.codes.cols);
  const uint16_t* codes =
      p.codes.row<uint16_t>(sequence.batch, wave.first_head + at.head, wave.first_hash + at.hash) +
      sequence.begin;
  const int64_t segment = p.order.segment(at.sequence, at.head, at.hash);
  const uint32_t* rows = p.order.rows + p.order.base(at.sequence, at.head, at.hash);
  const int64_t count = p.from_begin[segment * (kDigits + 1) + kDigits];
  uint32_t* begin = p.order.begin + segment * p.order.begin_stride;
  const int64_t last_tile = count == 0 ? 0 : (count - 1) / kTileRows;
  if (at.tile > last_tile) return;
  const int64_t end = min((at.tile + 1) * int64_t{kTileRows}, count);
  for (int64_t i = at.tile * kTileRows + threadIdx.x; i <= end; i += kThreads) {
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
                    .offsets = side.rows().offsets};
  const int64_t places = order.wave_rows * wave.heads * wave.hashes;
  order.rows = stream.allocate<uint32_t>(places);
  order.slots = want_slots ? stream.allocate<uint32_t>(places) : nullptr;
  const bool two_passes = code_bits > 8;
  uint32_t* first_begin = stream.allocate<uint32_t>(wave.segments() * (kDigits + 1));
  order.begin_stride = (two_passes ? order.buckets : kDigits) + 1;
  order.begin =
      two_passes ? stream.allocate<uint32_t>(wave.segments() * order.begin_stride) : first_begin;

  Pass pass{.codes = codes, .side = side.rows(), .order = order, .shift = 0, .begin = first_begin};
  pass.tiles = side.slice(side.tiles(kTileRows), wave.first_sequence, wave.sequences);
  if (side.longest() > kTileRows) {
    pass.counts = stream.allocate<uint32_t>(pass.tiles.total * wave.heads * wave.hashes * kDigits);
  }
  if (!two_passes) {
    run<uint8_t, false>(op, pass, stream);
    return order;
  }
  // The first pass writes beside the second, and needs no slots.
  Pass second = pass;
  pass.order.rows = stream.allocate<uint32_t>(places);
  pass.order.slots = nullptr;
  run<uint16_t, false>(op, pass, stream);
  second.shift = 8;
  second.from = pass.order.rows;
  second.from_begin = first_begin;
  second.begin = stream.allocate<uint32_t>(wave.segments() * (kDigits + 1));
  run<uint16_t, true>(op, second, stream);
  launch(op, stream.handle(), pass.tiles.total * wave.heads * wave.hashes, kThreads, 0, find_begins,
         second);
  return order;
}

}  // namespace yoso::cuda
