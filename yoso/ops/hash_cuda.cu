// Codes on the GPU. Both projections are linear, so a row's projections are a product with a dense
// [M * T, D] matrix, on tensor cores; a Hadamard rotation is turned into its matrix first, whose
// entries are small whole numbers that 16 bits hold. Floats are split into three bfloat16 parts,
// which together hold all of their bits. So products are exact and only the sums round.
//
// The columns of a fragment are dealt so that the eight bits of a byte of codes end in one lane,
// and the matrix is negated so that a bit is the sign bit of its sum: +0 for a sum of zero, as
// hash.h wants it. Hopper multiplies 16-bit rows of 17 to 64 columns by wgmma, all else by mma.sync.
//
// SPDX-License-Identifier: Apache-2.0
#include "yoso/cuda/bulk_copy.h"
#include "yoso/cuda/elements.h"
#include "yoso/cuda/launch.h"
#include "yoso/cuda/mma.h"
#include "yoso/cuda/stream.h"
#include "yoso/cuda/wgmma.h"
#include "yoso/ops/hash.h"
#include "yoso/ops/projection_number.h"

namespace yoso::cuda {
namespace {

constexpr int kCodesPerBlock = 4;  // bytes of codes that a warp makes at once, one a lane of four
constexpr int kBlockWords = 4 * kWarp * 2;  // words of a block of the matrix for 16 of D: 4 tiles

constexpr int kPanelRows = 64;  // columns of the matrix that wgmma takes at once

// How the matrix of one head lies in memory: fragments of B,
// [blocks][tile][part][k / 16][lane][2], or, for wgmma, panels of kPanelRows columns as SharedTiles.
struct MatrixShape {
  int64_t blocks;          // of kCodesPerBlock bytes
  int64_t bytes_per_code;  // 1 for T <= 8, else 2
  int steps;               // D / 16, rounded up to a power of two
  int parts;               // 2: a rounded matrix and what rounding left
  bool in_panels;

  __host__ __device__ int64_t words_per_block() const {
    return int64_t{kBlockWords} * parts * steps;
  }
  __host__ __device__ int64_t words_per_head() const { return blocks * words_per_block(); }
  __host__ __device__ int64_t panels() const { return blocks * kCodesPerBlock * 8 / kPanelRows; }

  // Where entry (bit t of hash m, column c) of part `part` stands, in elements of 16 bits.
  __device__ int64_t element(int64_t m, int64_t t, int64_t c, int part) const {
    const int64_t byte = m * bytes_per_code + t / 8, bit = t % 8;
    const int64_t n = 2 * (byte % 4) + bit % 2;       // column of the tile
    const int64_t tile = byte / 4 * 4 + 3 - bit / 2;  // high bits first
    if (in_panels) {
      const auto row = static_cast<uint32_t>((8 * tile + n) % kPanelRows);
      const auto chunk = static_cast<uint32_t>(c / 8);
      const uint32_t offset =
          steps == 2 ? SharedTile<32>::offset(row, chunk) : SharedTile<64>::offset(row, chunk);
      return (8 * tile + n) / kPanelRows * kPanelRows * 16 * steps + offset / 2 + c % 8;
    }
    // Lane t of four owns 4 * steps neighbouring columns of x: 16 bytes are one load.
    const int64_t lane = 4 * n + c / (4 * steps), step = c % (4 * steps) / 4;
    return (((tile * parts + part) * steps + step) * kWarp + lane) * 4 + c % 4;
  }
};

template <class T>
__device__ void put(T* matrix, const MatrixShape& shape, int64_t m, int64_t t, int64_t c, float x) {
  for (int part = 0; part < shape.parts; ++part) {
    const T rounded = narrow<T>(x);
    matrix[shape.element(m, t, c, part)] = rounded;
    x -= widen(rounded);
  }
}

// A block computes one column of one rotation of one head: the transform of a unit vector.
template <class T>
__global__ void hadamard_matrix(ProjectionShape p, int64_t d, int64_t codes_per_part, int64_t parts,
                                const float* numbers, MatrixShape shape, T* matrix) {
  __shared__ float y[256];
  const int64_t c = blockIdx.x % p.width;
  const int64_t part = blockIdx.x / p.width % parts;
  const int64_t head = blockIdx.x / p.width / parts;
  const float* signs = numbers + (head * parts + part) * 3 * d;
  const int r = static_cast<int>(threadIdx.x);
  y[r] = r == c ? 1.0f : 0.0f;
  for (int round = 0; round < 3; ++round) {
    y[r] *= signs[round * d + r];
    __syncthreads();
    for (int stride = static_cast<int>(d) / 2; stride >= 1; stride /= 2) {
      const float other = y[r ^ stride];
      const float sum = r & stride ? other - y[r] : other + y[r];
      __syncthreads();
      y[r] = sum;
      __syncthreads();
    }
  }
  const int64_t m = part * codes_per_part + r / p.code_bits;
  if (r / p.code_bits >= codes_per_part || m >= p.num_hashes) return;
  // Entries are multiples of 4 from d = 16 on: a quarter of them needs fewer bits.
  put(matrix + head * shape.words_per_head() * 2, shape, m, r % p.code_bits, c, -0.25f * y[r]);
}

template <class T>
__global__ void gaussian_matrix(ProjectionShape p, int64_t count, const float* numbers,
                                MatrixShape shape, T* matrix) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const int64_t c = i % p.width, bit = i / p.width % (p.num_hashes * p.code_bits);
  const int64_t head = i / p.width / (p.num_hashes * p.code_bits);
  put(matrix + head * shape.words_per_head() * 2, shape, bit / p.code_bits, bit % p.code_bits, c,
      -numbers[i]);
}

// What the tensor cores multiply: 16-bit types themselves, floats as three parts.
template <class T>
using Factor = std::conditional_t<std::is_same_v<T, float>, BFloat16, T>;
template <class T>
constexpr int kParts = std::is_same_v<T, float> ? 3 : 1;

// This lane's columns of one row as fragments, [part][2 * kSteps]; words 2s and 2s + 1 are of step
// s.
template <class T, int kSteps>
__device__ void load_row(const T* row, int64_t width, bool aligned,
                         uint32_t (&words)[kParts<T>][2 * kSteps]) {
  constexpr int kColumns = 4 * kSteps, kLoad = kVec<T> < kColumns ? kVec<T> : kColumns;
  const int first = static_cast<int>(threadIdx.x) % 4 * kColumns;
#pragma unroll
  for (int c = 0; c < kColumns; c += kLoad) {
    Vec<T, kLoad> v;
    if (aligned) {
      v = Vec<T, kLoad>::load(row + first + c);
    } else {
#pragma unroll
      for (int k = 0; k < kLoad; ++k) v.at[k] = first + c + k < width ? row[first + c + k] : T{};
    }
#pragma unroll
    for (int k = 0; k < kLoad; k += 2) {
      if constexpr (kParts<T> == 1) {
        words[0][(c + k) / 2] = v.at[k].bits | uint32_t{v.at[k + 1].bits} << 16;
      } else {
        float low = v.at[k], high = v.at[k + 1];
#pragma unroll
        for (int part = 0; part < kParts<T>; ++part) {
          const uint32_t packed = pack<BFloat16>(low, high);
          words[part][(c + k) / 2] = packed;
          low -= __uint_as_float(packed << 16);
          high -= __uint_as_float(packed & 0xffff0000u);
        }
      }
    }
  }
}

constexpr int kThreads = 128;

template <class T, int kSteps>
constexpr int kRowTiles = kParts<T>* kSteps <= 4   ? 4
                          : kParts<T>* kSteps <= 8 ? 2
                                                   : 1;  // of 16 rows a warp: as registers allow

template <class T, int kSteps>
__global__ void __launch_bounds__(kThreads)
    write_codes(Hash a, int64_t tiles, bool aligned, MatrixShape shape, const uint2* matrix) {
  constexpr int kTiles = kRowTiles<T, kSteps>, kMatrixParts = kSteps == 16 ? 2 : 1;
  constexpr int kRows = 16 * kTiles * kThreads / kWarp;
  const int64_t head = blockIdx.x / tiles % a.x.heads, batch = blockIdx.x / tiles / a.x.heads;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, g = lane / 4, t = lane % 4;
  const int64_t first =
      blockIdx.x % tiles * kRows + static_cast<int>(threadIdx.x) / kWarp * 16 * kTiles;

  uint32_t rows[kTiles][2][kParts<T>][2 * kSteps];
#pragma unroll
  for (int i = 0; i < 2 * kTiles; ++i) {
    const int64_t row = first + 8 * i + g;
    auto& words = rows[i / 2][i % 2];
    if (row < a.x.rows) {
      load_row<T, kSteps>(a.x.row<T>(batch, head, row), a.x.cols, aligned, words);
    } else {
      for (auto& part : words)
        for (uint32_t& word : part) word = 0;
    }
  }

  const int64_t drawn = head / (a.x.heads / a.projection_heads);
  const uint2* fragment = matrix + drawn * shape.words_per_head() / 2 + lane;
  const int code_size = static_cast<int>(size_of(a.codes.dtype));
  // This lane's byte of its first row in the first block's codes, and from block to block.
  const int bytes_per_hash = static_cast<int>(shape.bytes_per_code);
  uint8_t* to = static_cast<uint8_t*>(a.codes.data) +
                (batch * a.codes.batch_stride + head * a.codes.head_stride +
                 t / bytes_per_hash * a.codes.row_stride + first + g) *
                    code_size +
                t % bytes_per_hash;
  const int64_t to_next = kCodesPerBlock / bytes_per_hash * a.codes.row_stride * code_size;
  const int bytes = static_cast<int>(a.codes.rows) * bytes_per_hash;
  const int64_t left = a.x.rows - first - g;  // rows from the first on
  const int blocks = static_cast<int>(shape.blocks);
  for (int block = 0; block < blocks; ++block, to += to_next) {
    uint32_t codes[kTiles][2] = {};
#pragma unroll
    for (int tile = 3; tile >= 0; --tile) {  // bits 2 tile + 1 and 2 tile
      float sums[kTiles][4] = {};
#pragma unroll
      for (int part = 0; part < kMatrixParts; ++part) {
#pragma unroll
        for (int s = 0; s < kSteps; ++s) {
          const uint2 b = __ldg(fragment);
          fragment += kWarp;
#pragma unroll
          for (int i = 0; i < kTiles; ++i) {
#pragma unroll
            for (int x = 0; x < kParts<T>; ++x) {
              const auto &low = rows[i][0][x], &high = rows[i][1][x];
              mma<Factor<T>>(sums[i], {low[2 * s], high[2 * s], low[2 * s + 1], high[2 * s + 1]},
                             b.x, b.y);
            }
          }
        }
      }
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        // The sign of the sum is shifted in from below.
        codes[i][0] = __funnelshift_l(__float_as_uint(sums[i][1]), codes[i][0], 1);
        codes[i][0] = __funnelshift_l(__float_as_uint(sums[i][0]), codes[i][0], 1);
        codes[i][1] = __funnelshift_l(__float_as_uint(sums[i][3]), codes[i][1], 1);
        codes[i][1] = __funnelshift_l(__float_as_uint(sums[i][2]), codes[i][1], 1);
      }
    }
    if (block * kCodesPerBlock + t >= bytes) continue;
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) {
      if (8 * i < left) to[8 * i * code_size] = static_cast<uint8_t>(codes[i / 2][i % 2]);
    }
  }
}

// Where the codes of one head of one batch entry go, byte by byte.
struct CodeBytes {
  uint8_t* first;
  int64_t row_stride;  // bytes from hash to hash
  int wide, count;     // whether a code has two bytes; bytes of a row

  __device__ CodeBytes(const Hash& a, const MatrixShape& shape, int64_t batch, int64_t head)
      : row_stride(a.codes.row_stride * shape.bytes_per_code),
        wide(shape.bytes_per_code == 2),
        count(static_cast<int>(a.codes.rows) << wide) {
    first = static_cast<uint8_t*>(a.codes.data) +
            (batch * a.codes.batch_stride + head * a.codes.head_stride) * shape.bytes_per_code;
  }
  __device__ uint8_t* at(int byte, int64_t row) const {
    return first + (byte >> wide) * row_stride + (row << wide) + (byte & wide);
  }
};

constexpr int kWgmmaThreads = 128, kWgmmaTiles = 4, kPanelStages = 4;
constexpr int kWgmmaRows = 64 * kWgmmaTiles;  // of a block

// In shared memory: the rows of a block and some panels of the matrix.
template <class T, int kSteps>
struct WgmmaMemory {
  static constexpr int kTile = 64 * 16 * kSteps;

  T rows[kWgmmaTiles][kTile];
  T panels[kPanelStages][kTile];
};
static_assert(kPanelRows == 64);

// A warpgroup multiplies its rows, 64 at a time, by a panel of the matrix after the other: while it
// takes codes from one product, the next one is under way.
template <class T, int kSteps>
__global__ void __launch_bounds__(kWgmmaThreads, 3)
    write_codes_by_wgmma(Hash a, int64_t tiles, MatrixShape shape, const T* matrix) {
  if constexpr (kCompilesWgmma) {
    using Tile = SharedTile<16 * kSteps>;
    using Memory = WgmmaMemory<T, kSteps>;
    extern __shared__ __align__(1024) unsigned char shared[];
    auto& memory = *reinterpret_cast<Memory*>(shared);
    __shared__ CopyBarrier arrived[kPanelStages];
    const auto block = blockIdx.x, all_tiles = static_cast<uint32_t>(tiles),
               heads = static_cast<uint32_t>(a.x.heads);
    const int64_t head = block / all_tiles % heads, batch = block / all_tiles / heads;
    const int64_t first = block % all_tiles * int64_t{kWgmmaRows};
    const int tid = static_cast<int>(threadIdx.x), lane = tid % kWarp, g = lane / 4, t = lane % 4;
    const int rows = static_cast<int>(min(a.x.rows - first, int64_t{kWgmmaRows}));

    const int count = static_cast<int>(shape.panels());
    const T* panels = matrix + head / (a.x.heads / a.projection_heads) * shape.words_per_head() * 2;
    const auto copy_panel = [&](int panel) {
      const int stage = panel % kPanelStages;
      arrived[stage].expect(sizeof(memory.panels[stage]));
      arrived[stage].copy(memory.panels[stage], panels + panel * Memory::kTile,
                          sizeof(memory.panels[stage]));
    };
    if (tid == 0) {
      for (CopyBarrier& barrier : arrived) barrier.make();
      publish_barriers();
      for (int panel = 0; panel < min(count, kPanelStages); ++panel) copy_panel(panel);
    }
    {
      constexpr int kChunks = 2 * kSteps, kStep = kWgmmaThreads / kChunks;
      const int chunk = tid % kChunks, row = tid / kChunks;
      const bool in_width = 8 * chunk < a.x.cols;
      const T* from = a.x.row<T>(batch, head, first + row) + (in_width ? 8 * chunk : 0);
      const int64_t step = kStep * a.x.row_stride;
      for (int i = 0; i < kWgmmaTiles; ++i) {
        const uint32_t to = shared_address(memory.rows[i]);
#pragma unroll
        for (int r = 0; r < 64; r += kStep, from += step) {
          const bool there = in_width && 64 * i + row + r < rows;
          copy_async<16>(to + Tile::offset(row + r, chunk), there ? from : panels, there);
        }
        end_copy_group();
      }
    }
    __syncthreads();

    float sums[2][8][4];
    const auto start = [&](int panel, int i, float(&c)[8][4]) {
      const Tile x{shared_address(memory.rows[i])},
          of_panel{shared_address(memory.panels[panel % kPanelStages])};
      publish_registers();
      start_product<T>(c, describe(x, 0), describe(of_panel, 0));
#pragma unroll
      for (int s = 1; s < kSteps; ++s) {
        start_sum<T>(c, describe(x, 32 * s), describe(of_panel, 32 * s));
      }
      end_product_group();
    };
    const auto wait_for_rows = [&]() {
      publish_shared();
      __syncthreads();
    };
    wait_for_copies<kWgmmaTiles - 1>();
    wait_for_rows();
    const CodeBytes codes(a, shape, batch, head);
    const int my_row = tid / kWarp * 16 + g;
    for (int panel = 0; panel < count; ++panel) {
      uint8_t* to[2] = {codes.at((2 * panel) * kCodesPerBlock + t, first + my_row),
                        codes.at((2 * panel + 1) * kCodesPerBlock + t, first + my_row)};
      arrived[panel % kPanelStages].wait(panel / kPanelStages % 2);
      start(panel, 0, sums[0]);
#pragma unroll
      for (int i = 0; i < kWgmmaTiles; ++i) {
        auto& c = sums[i % 2];
        if (i + 1 < kWgmmaTiles) {
          if (panel == 0) {
            if (i == 0) wait_for_copies<2>();
            if (i == 1) wait_for_copies<1>();
            if (i == 2) wait_for_copies<0>();
            wait_for_rows();
          }
          start(panel, i + 1, sums[(i + 1) % 2]);
          wait_for_products<1>(c);
        } else {
          wait_for_products(c);
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const bool exists = (2 * panel + half) * kCodesPerBlock + t < codes.count;
#pragma unroll
          for (int lower = 0; lower < 2; ++lower) {
            uint32_t code = 0;
#pragma unroll
            for (int n = 4 * half; n < 4 * half + 4; ++n) {
              // + 0: whatever sign wgmma gives a sum of zeros, it has none then.
              code = __funnelshift_l(__float_as_uint(c[n][2 * lower + 1] + 0.0f), code, 1);
              code = __funnelshift_l(__float_as_uint(c[n][2 * lower] + 0.0f), code, 1);
            }
            const int further = 64 * i + 8 * lower;
            if (exists && my_row + further < rows) {
              to[half][further << codes.wide] = static_cast<uint8_t>(code);
            }
          }
        }
      }
      if (panel + kPanelStages < count) {
        __syncthreads();
        if (tid == 0) copy_panel(panel + kPanelStages);
      }
    }
  }
}

template <class T, int kSteps>
void run(const Hash& a, Stream& stream) {
  using F = Factor<T>;
  constexpr bool kHasPanels = sizeof(T) == 2 && (kSteps == 2 || kSteps == 4);
  const ProjectionShape p = a.shape();
  MatrixShape shape{.bytes_per_code = size_of(a.codes.dtype),
                    .steps = kSteps,
                    .parts = kSteps == 16 ? 2 : 1,
                    .in_panels = kHasPanels && a.x.cols % 8 == 0 && is_aligned(a.x) && has_wgmma()};
  shape.blocks = ceil_div(p.num_hashes * shape.bytes_per_code, kCodesPerBlock);
  if (shape.in_panels) shape.blocks = ceil_div(shape.blocks, 2) * 2;
  const int64_t words = a.projection_heads * shape.words_per_head();
  uint32_t* matrix = stream.allocate<uint32_t>(words);
  throw_if_failed(Hash::kName,
                  cudaMemsetAsync(matrix, 0, static_cast<size_t>(words) * 4, stream.handle()));
  F* elements = reinterpret_cast<F*>(matrix);
  if (a.projection == Projection::kHadamard) {
    const int64_t d = p.padded_width();
    launch(Hash::kName, stream.handle(), a.projection_heads * p.parts() * p.width,
           static_cast<int>(d), 0, hadamard_matrix<F>, p, d, p.codes_per_part(), p.parts(),
           a.projections, shape, elements);
  } else {
    const int64_t count = a.projection_heads * p.numbers_per_head();
    launch(Hash::kName, stream.handle(), ceil_div(count, 256), 256, 0, gaussian_matrix<F>, p, count,
           a.projections, shape, elements);
  }
  const auto blocks = [&](int64_t rows) {
    return a.x.batch * a.x.heads * ceil_div(a.x.rows, rows);
  };
  if constexpr (kHasPanels) {
    if (shape.in_panels) {
      launch(Hash::kName, stream.handle(), blocks(kWgmmaRows), kWgmmaThreads,
             sizeof(WgmmaMemory<F, kSteps>), write_codes_by_wgmma<F, kSteps>, a,
             ceil_div(a.x.rows, int64_t{kWgmmaRows}), shape, elements);
      return;
    }
  }
  constexpr int kRows = 16 * kRowTiles<T, kSteps> * kThreads / kWarp;
  const bool aligned = a.x.cols == 16 * kSteps && is_aligned(a.x);
  launch(Hash::kName, stream.handle(), blocks(kRows), kThreads, 0, write_codes<T, kSteps>, a,
         ceil_div(a.x.rows, int64_t{kRows}), aligned, shape,
         reinterpret_cast<const uint2*>(matrix));
}

__global__ void draw(ProjectionShape shape, int64_t count, int64_t heads, Seed seed, float* out) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count * heads) {
    out[i] = projection_number(shape.projection, seed.value(), static_cast<uint64_t>(i / count),
                               i % count);
  }
}

}  // namespace

float* draw_projections(const ProjectionShape& shape, int64_t heads, const Seed& seed,
                        Stream& stream) {
  const int64_t count = shape.numbers_per_head();
  float* numbers = stream.allocate<float>(heads * count);
  launch(Hash::kName, stream.handle(), ceil_div(heads * count, 256), 256, 0, draw, shape, count,
         heads, seed, numbers);
  return numbers;
}

void hash(const Hash& a, Stream& stream) {
  a.check();
  with_gpu_type(Hash::kName, "x", a.x.dtype, [&]<class T>() {
    if (a.x.size() == 0) return;
    if (a.x.cols <= 16) return run<T, 1>(a, stream);
    if (a.x.cols <= 32) return run<T, 2>(a, stream);
    if (a.x.cols <= 64) return run<T, 4>(a, stream);
    if (a.x.cols <= 128) return run<T, 8>(a, stream);
    run<T, 16>(a, stream);
  });
}

}  // namespace yoso::cuda
