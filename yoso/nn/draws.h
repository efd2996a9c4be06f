// Random numbers of attention kinds. Entry (r, c) is a function of (seed, stream, r, c) and of
// nothing else: a sequence has the same ones alone, padded and in any batch, on every device.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <optional>

namespace yoso::nn {

// `seed`, or a new one from torch's default CPU generator.
int64_t seed_or_draw(const std::optional<int64_t>& seed);

struct Draws {
  int64_t seed;
  uint32_t stream;
  at::Device device;

  at::Tensor uniforms(int64_t rows, int64_t columns) const;  // [rows, columns] float in (0, 1)
  at::Tensor normals(int64_t rows, int64_t columns) const;   // [rows, columns] float
};

}  // namespace yoso::nn
