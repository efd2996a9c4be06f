// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/draws.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "yoso/core/random.h"

namespace yoso::nn {
namespace {

constexpr int64_t kGrain = 1 << 12;  // blocks of a thread's share: worth more than its start

// The middle of one of 2^23 equal parts of (0, 1): exact in float, and never 0 or 1.
float uniform(uint32_t bits) { return (static_cast<float>(bits >> 9) + 0.5f) * 0x1p-23f; }

// Fills rows from their blocks of four; `four` makes four floats of a block.
template <class Four>
at::Tensor filled(const Draws& draws, int64_t rows, int64_t columns, Four four) {
  at::Tensor out = at::empty({rows, columns}, at::kFloat);
  auto* data = out.mutable_data_ptr<float>();
  const int64_t blocks = (columns + 3) / 4;
  at::parallel_for(0, rows * blocks, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / blocks, block = i % blocks;
      const uint64_t stream = uint64_t{draws.stream} << 32 | static_cast<uint64_t>(row);
      const std::array<float, 4> values = four(
          random_block(static_cast<uint64_t>(draws.seed), stream, static_cast<uint64_t>(block)));
      const int64_t count = std::min<int64_t>(4, columns - 4 * block);
      std::copy_n(values.begin(), count, data + row * columns + 4 * block);
    }
  });
  return out.to(draws.device);
}

}  // namespace

int64_t seed_or_draw(const std::optional<int64_t>& seed) {
  if (seed) return *seed;
  return at::randint(std::numeric_limits<int64_t>::max(), {}, at::kLong).item<int64_t>();
}

at::Tensor Draws::uniforms(int64_t rows, int64_t columns) const {
  return filled(*this, rows, columns, [](const std::array<uint32_t, 4>& bits) {
    return std::array{uniform(bits[0]), uniform(bits[1]), uniform(bits[2]), uniform(bits[3])};
  });
}

at::Tensor Draws::normals(int64_t rows, int64_t columns) const {
  return filled(*this, rows, columns, [](const std::array<uint32_t, 4>& bits) {
    std::array<float, 4> out;  // Box and Muller
    for (size_t i = 0; i < 4; i += 2) {
      const float radius = std::sqrt(-2 * std::log(uniform(bits[i])));
      const float angle = 2 * std::numbers::pi_v<float> * uniform(bits[i + 1]);
      out[i] = radius * std::cos(angle);
      out[i + 1] = radius * std::sin(angle);
    }
    return out;
  });
}

}  // namespace yoso::nn
