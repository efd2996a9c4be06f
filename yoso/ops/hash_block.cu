// SPDX-License-Identifier: Apache-2.0
#include "yoso/cuda/launch.h"
#include "yoso/cuda/stream.h"
#include "yoso/ops/hash_block.h"

namespace yoso::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kWordsPerThread = 16;

// Where row (b, h, r) begins, in bytes.
template <class Codes>
__host__ __device__ int64_t byte_of(const Codes& codes, int64_t b, int64_t h, int64_t r) {
  return (b * codes.batch_stride + h * codes.head_stride + r * codes.row_stride) *
         size_of(codes.dtype);
}

// A block of threads copies a piece of a row, `words` words long.
template <class Word>
__global__ void copy_rows(ConstArray codes, Array block, int64_t pieces, int64_t words, Seed seed) {
  const int64_t piece = blockIdx.x % pieces, r = blockIdx.x / pieces % block.rows;
  const int64_t group = blockIdx.x / pieces / block.rows;
  const int64_t h = group % block.heads, b = group / block.heads;
  const int64_t first = drawn_block(seed.value(), codes.rows / block.rows) * block.rows;
  const auto* from = reinterpret_cast<const Word*>(static_cast<const uint8_t*>(codes.data) +
                                                   byte_of(codes, b, h, first + r));
  auto* to = reinterpret_cast<Word*>(static_cast<uint8_t*>(block.data) + byte_of(block, b, h, r));
  const int64_t begin = piece * kThreads * kWordsPerThread + threadIdx.x;
  for (int64_t k = 0; k < kWordsPerThread; ++k) {
    const int64_t i = begin + k * kThreads;
    if (i < words) to[i] = from[i];
  }
}

template <class Word>
void run(const ConstArray& codes, const Array& block, const Seed& seed, Stream& stream) {
  const int64_t words = codes.cols * size_of(codes.dtype) / static_cast<int64_t>(sizeof(Word));
  const int64_t pieces = ceil_div(words, kThreads * kWordsPerThread);
  launch(Hash::kName, stream.handle(), block.batch * block.heads * block.rows * pieces, kThreads, 0,
         copy_rows<Word>, codes, block, pieces, words, seed);
}

// Every row begins and ends where a word of 16 bytes does.
template <class Codes>
bool has_whole_words(const Codes& codes) {
  const auto begin = static_cast<int64_t>(reinterpret_cast<uintptr_t>(codes.data));
  const int64_t steps =
      codes.batch_stride | codes.head_stride | codes.row_stride | codes.cols;  // elements
  return (begin | steps * size_of(codes.dtype)) % 16 == 0;
}

}  // namespace

void copy_drawn_block(const ConstArray& codes, const Array& block, const Seed& seed,
                      Stream& stream) {
  if (has_whole_words(codes) && has_whole_words(block)) {
    run<uint4>(codes, block, seed, stream);
  } else {
    run<uint8_t>(codes, block, seed, stream);
  }
}

}  // namespace yoso::cuda
