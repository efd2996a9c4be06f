// Tiles of 16-bit rows in shared memory: filled by asynchronous copies, read as fragments of mma.h.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace yoso::cuda {

__device__ inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// kBytes (4 or 16) from global to shared memory, or zeros where they are not `there`. Both
// addresses are multiples of kBytes. What was copied is seen after wait_for_copies and
// __syncthreads, or __syncwarp by the warp that copied.
template <int kBytes>
__device__ inline void copy_async(uint32_t to, const void* from, bool there) {
  const int size = there ? kBytes : 0;
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(size)
                 : "memory");
  } else {
    static_assert(kBytes == 4);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(size)
                 : "memory");
  }
}
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }
// Copies in groups: waits until at most the kUnderWay newest groups are not there yet.
__device__ inline void end_copy_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kUnderWay>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kUnderWay) : "memory");
}

// Four 8 x 8 matrices; lane l names row l % 8 of matrix l / 8. Lane l gets elements 2 (l % 4) and
// the next one of row l / 4 of each matrix.
__device__ inline void load_matrices(uint32_t row, uint32_t (&to)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}
// The same of the transposed matrices.
__device__ inline void load_transposed(uint32_t row, uint32_t (&to)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}

// Stores four 8 x 8 matrices transposed: lane l gives columns 2 (l % 4) and the next one of row
// l / 4 of each, and names where column l % 8 of matrix l / 8 goes (sm_90 and later).
__device__ inline void store_transposed(uint32_t column, const uint32_t (&from)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(column),
               "r"(from[0]), "r"(from[1]), "r"(from[2]), "r"(from[3])
               : "memory");
}

// Words of shared memory by their addresses.
__device__ inline void store_word(uint32_t to, uint32_t word) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(word) : "memory");
}
__device__ inline uint4 load_words(uint32_t from) {
  uint4 words;
  asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
               : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
               : "r"(from)
               : "memory");
  return words;
}

// How the 16-byte chunks of rows of kRowBytes are permuted in shared memory, so that eight rows'
// chunks of one column lie in different banks: chunk c of row r lies at c ^ turn(r). Turns are bits
// of the row: the place of row a + b, of no common bit, is an XOR and a sum away from that of row b.
template <int kRowBytes>
struct ChunkOrder {
  static constexpr uint32_t kChunks = kRowBytes / 16;
  static constexpr uint32_t kRowsOfBanks = kRowBytes < 128 ? 128 / kRowBytes : 1;

  static __host__ __device__ constexpr uint32_t turn(uint32_t row) {
    return row / kRowsOfBanks % (kChunks < 8 ? kChunks : 8);
  }
  static __device__ uint32_t offset(uint32_t row, uint32_t chunk) {
    return row * kRowBytes + (chunk ^ turn(row)) * 16;
  }
  // Of row `row` + `further`, where `at` is that of `row`; they have no common bit.
  static __device__ uint32_t further(uint32_t at, uint32_t further) {
    return (at ^ turn(further) * 16) + further * kRowBytes;
  }
};

// Rows of kWidth 16-bit numbers from `base` on, a multiple of 256.
template <int kWidth>
struct SharedTile {
  static_assert(kWidth == 32 || kWidth == 64 || kWidth == 128);
  static constexpr uint32_t kChunks = kWidth / 8, kRowBytes = 2 * kWidth;
  using Order = ChunkOrder<kRowBytes>;

  uint32_t base;

  static __device__ uint32_t offset(uint32_t row, uint32_t chunk) {
    return Order::offset(row, chunk);
  }

  // Where a lane's rows of a fragment begin, for the loads below.
  static __device__ uint32_t a_lane() { return offset(threadIdx.x % 16, threadIdx.x / 16 % 2); }
  static __device__ uint32_t columns_lane() {  // of load_turned too
    return offset(threadIdx.x / 16 % 2 * 8 + threadIdx.x % 8, threadIdx.x / 8 % 2);
  }
  static __device__ uint32_t rows_lane() { return a_lane(); }

  // A [16 x 16]: rows first .. first + 15 (a multiple of 16), columns 16 step ...
  __device__ void load_a(uint32_t lane, uint32_t first, uint32_t step, uint32_t (&a)[4]) const {
    load_matrices(base + first * kRowBytes + (lane ^ 32 * step), a);
  }
  // A [16 x 16] whose rows are columns 16 step ... of the tile and whose k are rows first ...
  __device__ void load_turned(uint32_t lane, uint32_t first, uint32_t step,
                              uint32_t (&a)[4]) const {
    load_transposed(base + first * kRowBytes + (lane ^ 32 * step), a);
  }
  // B [16 x 16] whose columns are rows first ... of the tile and whose k are columns 16 step ...:
  // b[0], b[1] of the first 8 columns, b[2], b[3] of the others.
  __device__ void load_columns(uint32_t lane, uint32_t first, uint32_t step,
                               uint32_t (&b)[4]) const {
    load_matrices(base + first * kRowBytes + (lane ^ 32 * step), b);
  }
  // B [16 x 16] whose k are rows first ... of the tile and whose columns are columns 16 step ...
  __device__ void load_rows(uint32_t lane, uint32_t first, uint32_t step, uint32_t (&b)[4]) const {
    load_transposed(base + first * kRowBytes + (lane ^ 32 * step), b);
  }
};

}  // namespace yoso::cuda
