// Which rows are real, as kernels see it: Rows whose offsets lie on the GPU, and the way from the
// number of a work item to a sequence and a run of its rows.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "yoso/core/array.h"
#include "yoso/cuda/stream.h"

namespace yoso::cuda {

// `host` copied to the GPU by kernel arguments: no synchronisation, and a captured graph keeps the
// numbers.
int64_t* upload(const std::vector<int64_t>& host, Stream& stream);

// Where offsets that stand on the GPU are not what Rows promises of them, prints them and stops all
// work of the process on the GPU: going on would write anywhere, and nobody waits for an answer. The
// rows are the row extents of the sides' arrays. Does nothing for offsets on the host.
void check_offsets_on_gpu(const char* op, const Rows& queries, int64_t query_rows, const Rows& keys,
                          int64_t key_rows, Stream& stream);

// Zeroes the rows of `out` that follow the last sequence: there are none where the host has offsets.
void clear_rows_after(const char* op, const Rows& side, const Array& out, Stream& stream);

// Tiles of rows of some sequences, counted through, as a kernel takes them.
struct Tiles {
  int64_t rows_per_tile = 1;
  int64_t total = 0;  // of these sequences
  int64_t first_sequence = 0, sequences = 0;
  int64_t per_sequence = 0;        // where the host has no offsets
  const int64_t* first = nullptr;  // where it has, on the GPU: first tile of every sequence of the
  int64_t first_tile = 0;          // side, and first[first_sequence]

  struct Place {
    int64_t sequence, tile;  // tile within the sequence
  };

#ifdef __CUDACC__
  __device__ Place operator[](int64_t item) const {
    if (first == nullptr) {  // there are fewer than 2^31 blocks
      const auto i = static_cast<uint32_t>(item), tiles = static_cast<uint32_t>(per_sequence);
      return {first_sequence + i / tiles, i % tiles};
    }
    int64_t low = first_sequence, high = first_sequence + sequences - 1;
    while (low < high) {
      const int64_t middle = (low + high + 1) / 2;
      if (first[middle] - first_tile <= item) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return {low, item - (first[low] - first_tile)};
  }
#endif
};

// One side (queries or keys) of an operator on the GPU.
class GpuSide {
 public:
  // `given`: as operators take it. `rows`: the row extent of the arrays.
  GpuSide(const Rows& given, int64_t batch, int64_t rows, Stream& stream);

  const Rows& rows() const { return device_; }  // offsets on the GPU
  int64_t sequences() const { return sequences_; }
  // Rows of every sequence, where the host knows no other number: all of padded ones, at most so
  // many of ragged ones whose offsets came on the GPU.
  int64_t row_extent() const { return row_extent_; }
  bool has_host_offsets() const { return !offsets_.empty(); }
  // Rows of sequences first .. first + count - 1, and where those begin among all of the side.
  int64_t rows_of(int64_t first, int64_t count) const;
  int64_t first_row(int64_t sequence) const;
  int64_t longest() const;
  // Real rows that every sequence has at least: 0 where only the GPU knows them.
  int64_t certain_rows() const;

  // Every sequence has at least one tile, also the empty ones. To be asked once for a size.
  Tiles tiles(int64_t rows_per_tile) const;
  // The part of `all` that belongs to sequences first .. first + count - 1.
  Tiles slice(const Tiles& all, int64_t first, int64_t count) const;

 private:
  int64_t length(int64_t sequence) const { return rows_of(sequence, 1); }
  int64_t tiles_before(int64_t sequence, int64_t rows_per_tile) const;

  Rows device_;
  std::vector<int64_t> offsets_;  // that the host has; none: padded, or offsets on the GPU
  int64_t sequences_, row_extent_;
  bool lengths_on_gpu_;
  Stream& stream_;
};

}  // namespace yoso::cuda
