// A team of lanes a row, which stays in registers, eight columns a lane at a time. A block takes
// kRowsPerBlock rows and sums their columns, if asked to; what blocks have is added up by sum_parts.
// The order of a sum depends on the numbers of rows and columns alone. Bound by memory: a row is read
// and written once.
// SPDX-License-Identifier: Apache-2.0
#include "yoso/core/random.h"
#include "yoso/cuda/elements.h"
#include "yoso/cuda/launch.h"
#include "yoso/cuda/stream.h"
#include "yoso/ops/residual_norm.h"

namespace yoso::cuda {
namespace {

constexpr int kThreads = 256, kRowsPerBlock = 128;
constexpr int kSize = 8;  // columns of a lane that are neighbours
static_assert(kSize == DropoutRate::kPerBlock);

template <int kChunks>
using MyRow = float[kChunks][kSize];

// Which rows and columns are this thread's: row `first_row` and every `teams` rows on, kSize columns
// from `first_column` and every `lanes` kSize on.
struct Team {
  int lanes, teams, first_column;
  int64_t first_row, last_row;

  __device__ Team(int lanes, const ConstArray& x)
      : lanes(lanes),
        teams(kThreads / lanes),
        first_column(static_cast<int>(threadIdx.x) % lanes * kSize),
        first_row(int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / lanes),
        last_row(min((int64_t{blockIdx.x} + 1) * kRowsPerBlock, x.batch * x.heads * x.rows)) {}

  // Calls f(chunk, column) for each kSize columns.
  template <int kChunks, class F>
  __device__ void for_chunks(F&& f) const {
#pragma unroll
    for (int k = 0; k < kChunks; ++k) f(k, first_column + k * lanes * kSize);
  }
  // The sum over the row's lanes, all of which are here.
  __device__ float sum(float x) const {
    for (int step = lanes / 2; step >= 1; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
    return x;
  }
};

template <class A>
__device__ inline int64_t place_of(const A& x, int64_t row) {
  const auto n = static_cast<uint32_t>(x.rows), heads = static_cast<uint32_t>(x.heads);
  if (x.batch * x.heads * x.rows <= INT32_MAX) {
    const auto r = static_cast<uint32_t>(row);
    return r / n / heads * x.batch_stride + r / n % heads * x.head_stride + r % n * x.row_stride;
  }
  return row / x.rows / x.heads * x.batch_stride + row / x.rows % x.heads * x.head_stride +
         row % x.rows * x.row_stride;
}

// kSize columns of a row that begins at element `from`, zeros beyond its end.
template <class T>
__device__ inline void load_as(const ConstArray& x, int64_t from, int c, bool whole,
                               float (&to)[kSize]) {
  const T* row = static_cast<const T*>(x.data) + from + c;
  if (whole && c < x.cols) {
    const auto v = Vec<T, kSize>::load(row);
#pragma unroll
    for (int j = 0; j < kSize; ++j) to[j] = widen(v.at[j]);
  } else {
#pragma unroll
    for (int j = 0; j < kSize; ++j) to[j] = c + j < x.cols ? widen(row[j]) : 0.0f;
  }
}
__device__ inline void load(const ConstArray& x, int64_t from, int c, bool whole,
                            float (&to)[kSize]) {
  with_element(x.dtype, [&]<class T>() { load_as<T>(x, from, c, whole, to); });
}
__device__ inline void store(const Array& x, int64_t to, int c, bool whole,
                             const float (&from)[kSize]) {
  with_element(x.dtype, [&]<class T>() {
    T* row = static_cast<T*>(x.data) + to + c;
    if (whole && c < x.cols) {
      Vec<T, kSize> v;
#pragma unroll
      for (int j = 0; j < kSize; ++j) v.at[j] = narrow<T>(from[j]);
      v.store(row);
    } else {
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        if (c + j < x.cols) row[j] = narrow<T>(from[j]);
      }
    }
  });
}

// x *= k / (1 - p) for kSize columns.
__device__ inline void drop(const DropoutMask& dropout, int64_t row, int c, int64_t width,
                            float (&x)[kSize]) {
  if (dropout.rate.dropped == 0) return;
  const auto block =
      random_block(static_cast<uint64_t>(*dropout.seed), 0,
                   static_cast<uint64_t>(row * ((width + kSize - 1) / kSize) + c / kSize));
#pragma unroll
  for (int j = 0; j < kSize; ++j)
    x[j] = dropout.rate.drops(block, j) ? 0.0f : x[j] * dropout.rate.scale<float>();
}

template <int kChunks>
__global__ void __launch_bounds__(kThreads)
    add_and_normalise(ResidualNorm a, int lanes, bool whole) {
  const Team team(lanes, a.x);
  const auto width = static_cast<float>(a.x.cols);
  for (int64_t r = team.first_row; r - threadIdx.x / lanes < team.last_row; r += team.teams) {
    const bool exists = r < team.last_row;
    const int64_t row = exists ? r : team.last_row - 1;
    MyRow<kChunks> sum;
    float mean = 0, variance = 0;
    const int64_t from = place_of(a.x, row);
    team.for_chunks<kChunks>([&](int k, int c) {
      load(a.x, from, c, whole, sum[k]);
      if (a.branch.data || a.bias.data) {
        float branch[kSize] = {}, bias[kSize] = {};
        if (a.branch.data) load(a.branch, place_of(a.branch, row), c, whole, branch);
        if (a.bias.data) load(a.bias, 0, c, whole, bias);
#pragma unroll
        for (int j = 0; j < kSize; ++j) branch[j] += bias[j];
        drop(a.dropout, row, c, a.x.cols, branch);
#pragma unroll
        for (int j = 0; j < kSize; ++j) sum[k][j] += branch[j];
      }
#pragma unroll
      for (int j = 0; j < kSize; ++j) mean += sum[k][j];
      if (a.sum.data && exists) store(a.sum, place_of(a.sum, row), c, whole, sum[k]);
    });
    mean = team.sum(mean) / width;
    team.for_chunks<kChunks>([&](int k, int c) {
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        sum[k][j] -= mean;
        variance += c + j < a.x.cols ? sum[k][j] * sum[k][j] : 0.0f;
      }
    });
    const float scale = 1 / sqrtf(team.sum(variance) / width + static_cast<float>(a.epsilon));
    if (!exists) continue;
    team.for_chunks<kChunks>([&](int k, int c) {
#pragma unroll
      for (int j = 0; j < kSize; ++j) sum[k][j] *= scale;
      store(a.norm, place_of(a.norm, row), c, whole, sum[k]);
    });
    if (team.first_column == 0) {
      const int64_t i = row % a.x.rows, group = row / a.x.rows;
      a.scale.row<float>(group / a.x.heads, group % a.x.heads, 0)[i] = scale;
    }
  }
}

// Writes the block's sum of `sums`, over its teams in their order, to row blockIdx.x of `parts`.
template <int kChunks>
__device__ void store_part(const Team& team, const MyRow<kChunks>& sums, int64_t width,
                           float* parts) {
  __shared__ float shared[kThreads][kSize + 1];
  team.for_chunks<kChunks>([&](int k, int) {
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kSize; ++j) shared[threadIdx.x][j] = sums[k][j];
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < team.lanes * kSize; i += kThreads) {
      const int64_t c = int64_t{k} * team.lanes * kSize + i;
      if (c >= width) break;
      float sum = 0;
      for (int t = 0; t < team.teams; ++t) sum += shared[t * team.lanes + i / kSize][i % kSize];
      parts[int64_t{blockIdx.x} * width + c] = sum;
    }
  });
}

template <int kChunks>
__global__ void __launch_bounds__(kThreads)
    differentiate(ResidualNormGrad a, int lanes, bool whole, float* parts) {
  const Team team(lanes, a.norm);
  const auto width = static_cast<float>(a.norm.cols);
  MyRow<kChunks> sums = {};
  for (int64_t r = team.first_row; r - threadIdx.x / lanes < team.last_row; r += team.teams) {
    const bool exists = r < team.last_row;
    const int64_t row = exists ? r : team.last_row - 1;
    MyRow<kChunks> norm, grad;
    float mean = 0, along = 0;
    const int64_t norm_at = place_of(a.norm, row), grad_at = place_of(a.norm_grad, row);
    team.for_chunks<kChunks>([&](int k, int c) {
      load(a.norm, norm_at, c, whole, norm[k]);
      load(a.norm_grad, grad_at, c, whole, grad[k]);
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        mean += grad[k][j];
        along += grad[k][j] * norm[k][j];
      }
    });
    mean = team.sum(mean) / width;
    along = team.sum(along) / width;
    if (!exists) continue;
    const int64_t group = row / a.norm.rows;
    const float scale =
        a.scale.row<float>(group / a.norm.heads, group % a.norm.heads, 0)[row % a.norm.rows];
    team.for_chunks<kChunks>([&](int k, int c) {
      float other[kSize] = {};
      if (a.sum_grad.data) load(a.sum_grad, place_of(a.sum_grad, row), c, whole, other);
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        // Rounded as where the two gradients come apart and are added up later.
        const float of_norm = __fmul_rn(scale, grad[k][j] - mean - along * norm[k][j]);
        grad[k][j] = __fadd_rn(other[j], of_norm);
      }
      store(a.x_grad, place_of(a.x_grad, row), c, whole, grad[k]);
      if (!a.branch_grad.data && parts == nullptr) return;
      drop(a.dropout, row, c, a.norm.cols, grad[k]);
      if (a.branch_grad.data) store(a.branch_grad, place_of(a.branch_grad, row), c, whole, grad[k]);
#pragma unroll
      for (int j = 0; j < kSize; ++j) sums[k][j] += grad[k][j];
    });
  }
  if (parts) store_part<kChunks>(team, sums, a.norm.cols, parts);
}

template <int kChunks>
__global__ void __launch_bounds__(kThreads)
    sum_columns(ConstArray x, int lanes, bool whole, float* parts) {
  const Team team(lanes, x);
  MyRow<kChunks> sums = {};
  for (int64_t row = team.first_row; row < team.last_row; row += team.teams) {
    const int64_t from = place_of(x, row);
    team.for_chunks<kChunks>([&](int k, int c) {
      float numbers[kSize];
      load(x, from, c, whole, numbers);
#pragma unroll
      for (int j = 0; j < kSize; ++j) sums[k][j] += numbers[j];
    });
  }
  store_part<kChunks>(team, sums, x.cols, parts);
}

// A block kWarp columns: a warp adds up every kSlices-th part, and the first warp what those have.
constexpr int kSlices = 32;
__global__ void __launch_bounds__(kWarp* kSlices)
    sum_parts(const float* parts, int64_t blocks, Array out) {
  __shared__ float shared[kSlices][kWarp + 1];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, slice = threadIdx.x / kWarp;
  const int64_t c = int64_t{blockIdx.x} * kWarp + lane;
  float sum = 0;
  if (c < out.cols) {
#pragma unroll 8
    for (int64_t i = slice; i < blocks; i += kSlices) sum += parts[i * out.cols + c];
  }
  shared[slice][lane] = sum;
  __syncthreads();
  if (slice > 0 || c >= out.cols) return;
  for (int s = 1; s < kSlices; ++s) sum += shared[s][lane];
  static_cast<float*>(out.data)[c] = sum;
}

int64_t blocks_of(const ConstArray& x) {
  return ceil_div(x.batch * x.heads * x.rows, kRowsPerBlock);
}

int lanes_of(const ConstArray& x) {
  int lanes = 1;
  while (lanes < kWarp && lanes * kSize < x.cols) lanes *= 2;
  return lanes;
}

// Calls f.template operator()<kChunks>() with at least as many as a row of `x` needs.
template <class F>
void with_chunks(const ConstArray& x, F&& f) {
  const int64_t chunks = ceil_div(x.cols, int64_t{kWarp} * kSize);
  if (chunks <= 1) return f.template operator()<1>();
  chunks <= 2 ? f.template operator()<2>() : f.template operator()<4>();
}

// Whether kSize columns at a time are all of each row, at addresses for one load.
template <class... Arrays>
bool are_whole(const Arrays&... arrays) {
  return ((arrays.data == nullptr || (arrays.cols % kSize == 0 && is_aligned(arrays))) && ...);
}

void add_parts(const char* op, const float* parts, const ConstArray& x, const Array& out,
               Stream& stream) {
  launch(op, stream.handle(), ceil_div(out.cols, kWarp), kWarp * kSlices, 0, sum_parts, parts,
         blocks_of(x), out);
}

}  // namespace

void residual_norm(const ResidualNorm& a, Stream& stream) {
  a.check();
  check_gpu_type(a.kName, "x", a.x.dtype);  // which all others go with
  const bool whole = are_whole(a.x, a.branch, a.bias, a.sum, a.norm);
  with_chunks(a.x, [&]<int kChunks>() {
    launch(a.kName, stream.handle(), blocks_of(a.x), kThreads, 0, add_and_normalise<kChunks>, a,
           lanes_of(a.x), whole);
  });
}

void residual_norm_grad(const ResidualNormGrad& a, Stream& stream) {
  a.check();
  check_gpu_type(a.kName, "norm", a.norm.dtype);
  const Stream::Scope scope(stream);
  float* parts =
      a.bias_grad.data ? stream.allocate<float>(blocks_of(a.norm) * a.norm.cols) : nullptr;
  const bool whole = are_whole(a.norm, a.sum_grad, a.norm_grad, a.x_grad, a.branch_grad);
  with_chunks(a.norm, [&]<int kChunks>() {
    launch(a.kName, stream.handle(), blocks_of(a.norm), kThreads, 0, differentiate<kChunks>, a,
           lanes_of(a.norm), whole, parts);
  });
  if (a.bias_grad.data) add_parts(a.kName, parts, a.norm, a.bias_grad, stream);
}

void column_sums(const ColumnSums& a, Stream& stream) {
  a.check();
  check_gpu_type(a.kName, "x", a.x.dtype);
  const Stream::Scope scope(stream);
  float* parts = stream.allocate<float>(blocks_of(a.x) * a.x.cols);
  with_chunks(a.x, [&]<int kChunks>() {
    launch(a.kName, stream.handle(), blocks_of(a.x), kThreads, 0, sum_columns<kChunks>, a.x,
           lanes_of(a.x), are_whole(a.x), parts);
  });
  add_parts(a.kName, parts, a.x, a.out, stream);
}

}  // namespace yoso::cuda
