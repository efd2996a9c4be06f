// Which rows are real, as kernels see it: Rows whose offsets lie on the GPU, and the way from a
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

// A side with its offsets on the GPU. `host` is the operator's: offsets on the host.
Rows upload_rows(const Rows& host, Stream& stream);

// The rows of every sequence of one side cut into tiles of `tile` rows, counted through.
struct Tiles {
  int64_t rows_per_tile = 1;
  int64_t total = 0;               // tiles of all sequences
  int64_t per_sequence = 0;        // padded
  const int64_t* first = nullptr;  // ragged, on the GPU: [sequences + 1], first tile of a sequence
  int64_t sequences = 0;

  struct Place {
    int64_t sequence, tile;  // tile within the sequence
  };

#ifdef __CUDACC__
  __device__ Place operator[](int64_t item) const {
    if (first == nullptr) return {item / per_sequence, item % per_sequence};
    int64_t low = 0, high = sequences - 1;
    while (low < high) {
      const int64_t middle = (low + high + 1) / 2;
      if (first[middle] <= item) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return {low, item - first[low]};
  }
#endif
};

// Every sequence has at least one tile, also the empty ones. `host` has its offsets on the host.
Tiles tile_rows(const Rows& host, int64_t batch, int64_t rows, int64_t rows_per_tile,
                Stream& stream);

}  // namespace yoso::cuda
