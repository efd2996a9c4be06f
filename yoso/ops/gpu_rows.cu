// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "yoso/cuda/launch.h"
#include "yoso/ops/gpu_rows.h"

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

}  // namespace

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

Rows upload_rows(const Rows& host, Stream& stream) {
  Rows device = host;
  if (host.offsets) {
    device.offsets = upload({host.offsets, host.offsets + host.sequences + 1}, stream);
  }
  return device;
}

Tiles tile_rows(const Rows& host, int64_t batch, int64_t rows, int64_t rows_per_tile,
                Stream& stream) {
  const auto count = [&](int64_t n) { return std::max<int64_t>(1, ceil_div(n, rows_per_tile)); };
  Tiles tiles{.rows_per_tile = rows_per_tile, .sequences = host.count(batch)};
  if (host.offsets == nullptr) {
    tiles.per_sequence = count(rows);
    tiles.total = tiles.per_sequence * batch;
    return tiles;
  }
  std::vector<int64_t> first{0};
  for (int64_t b = 0; b < host.sequences; ++b) {
    first.push_back(first.back() + count(host.offsets[b + 1] - host.offsets[b]));
  }
  tiles.total = first.back();
  tiles.first = upload(first, stream);
  return tiles;
}

}  // namespace yoso::cuda
