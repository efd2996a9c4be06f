// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>

#include "yoso/cuda/launch.h"
#include "yoso/ops/gpu_rows.h"
#include "yoso/ops/pair_side.h"

namespace yoso::cuda {
namespace {

// As many numbers as the arguments of a kernel hold on every driver (4 KiB).
struct Chunk {
  static constexpr int kSize = 480;
  int64_t numbers[kSize];
};

__global__ void write(Chunk chunk, int64_t count, int64_t* out) {
  if (threadIdx.x < count) out[threadIdx.x] = chunk.numbers[threadIdx.x];
}

__global__ void check_offsets(Rows queries, int64_t query_rows, Rows keys, int64_t key_rows) {
  const Rows& side = blockIdx.x == 0 ? queries : keys;
  const int64_t rows = blockIdx.x == 0 ? query_rows : key_rows;
  for (int64_t b = threadIdx.x; b < side.sequences; b += blockDim.x) {
    const int64_t begin = side.offsets[b], end = side.offsets[b + 1];
    if (begin >= 0 && begin <= end && end <= rows && end - begin <= side.longest &&
        (b > 0 || begin == 0)) {
      continue;
    }
    printf(
        "yoso: %s_offsets[%lld .. %lld] are %lld and %lld, expected to rise from 0 to at most %lld "
        "by at most longest = %lld\n",
        blockIdx.x == 0 ? "query" : "key", static_cast<long long>(b), static_cast<long long>(b + 1),
        static_cast<long long>(begin), static_cast<long long>(end), static_cast<long long>(rows),
        static_cast<long long>(side.longest));
    __trap();
  }
}

}  // namespace

void check_offsets_on_gpu(const char* op, const Rows& queries, int64_t query_rows, const Rows& keys,
                          int64_t key_rows, Stream& stream) {
  if (queries.longest == 0 && keys.longest == 0) return;
  launch(op, stream.handle(), 2, 256, 0, check_offsets, queries, query_rows, keys, key_rows);
}

void clear_rows_after(const char* op, const Rows& side, const Array& out, Stream& stream) {
  if (side.longest > 0) clear_rows(op, side, out, /*masked=*/false, stream);
}

int64_t* upload(const std::vector<int64_t>& host, Stream& stream) {
  const auto count = static_cast<int64_t>(host.size());
  int64_t* device = stream.allocate<int64_t>(count);
  for (int64_t begin = 0; begin < count; begin += Chunk::kSize) {
    const int64_t size = std::min<int64_t>(count - begin, Chunk::kSize);
    Chunk chunk;
    std::copy_n(host.begin() + begin, size, chunk.numbers);
    launch("upload", stream.handle(), 1, 512, 0, write, chunk, size, device + begin);
  }
  return device;
}

GpuSide::GpuSide(const Rows& given, int64_t batch, int64_t rows, Stream& stream)
    : device_(given),
      sequences_(given.count(batch)),
      row_extent_(given.longest > 0 ? std::min(given.longest, rows) : rows),
      lengths_on_gpu_(given.mask != nullptr || given.longest > 0),
      stream_(stream) {
  if (given.offsets == nullptr || given.longest > 0) return;
  offsets_.assign(given.offsets, given.offsets + given.sequences + 1);
  device_.offsets = upload(offsets_, stream);
}

int64_t GpuSide::first_row(int64_t sequence) const {
  return offsets_.empty() ? sequence * row_extent_ : offsets_[static_cast<size_t>(sequence)];
}

int64_t GpuSide::rows_of(int64_t first, int64_t count) const {
  return first_row(first + count) - first_row(first);
}

int64_t GpuSide::longest() const {
  if (offsets_.empty()) return sequences_ == 0 ? 0 : row_extent_;
  int64_t longest = 0;
  for (int64_t s = 0; s < sequences_; ++s) longest = std::max(longest, length(s));
  return longest;
}

int64_t GpuSide::certain_rows() const {
  if (lengths_on_gpu_) return 0;
  int64_t shortest = row_extent_;
  for (int64_t s = 0; s < sequences_; ++s) shortest = std::min(shortest, length(s));
  return shortest;
}

Tiles GpuSide::tiles(int64_t rows_per_tile) const {
  const auto count = [&](int64_t n) { return std::max<int64_t>(1, ceil_div(n, rows_per_tile)); };
  Tiles tiles{.rows_per_tile = rows_per_tile, .sequences = sequences_};
  if (offsets_.empty()) {
    tiles.per_sequence = count(row_extent_);
    tiles.total = tiles.per_sequence * sequences_;
    return tiles;
  }
  std::vector<int64_t> first{0};
  for (int64_t s = 0; s < sequences_; ++s) first.push_back(first.back() + count(length(s)));
  tiles.total = first.back();
  tiles.first = upload(first, stream_);
  return tiles;
}

Tiles GpuSide::slice(const Tiles& all, int64_t first, int64_t count) const {
  Tiles part = all;
  part.first_sequence = first;
  part.sequences = count;
  if (offsets_.empty()) {
    part.total = count * all.per_sequence;
  } else {
    part.first_tile = tiles_before(first, all.rows_per_tile);
    part.total = tiles_before(first + count, all.rows_per_tile) - part.first_tile;
  }
  return part;
}

int64_t GpuSide::tiles_before(int64_t sequence, int64_t rows_per_tile) const {
  int64_t tiles = 0;
  for (int64_t s = 0; s < sequence; ++s) {
    tiles += std::max<int64_t>(1, ceil_div(length(s), rows_per_tile));
  }
  return tiles;
}

}  // namespace yoso::cuda
