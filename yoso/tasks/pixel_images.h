// Labelled grey images, all square and of one size, in files that are mapped and not read.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

namespace yoso {

class PixelImages {
 public:
  virtual ~PixelImages() = default;

  virtual int64_t size() const = 0;
  virtual int64_t label(int64_t i) const = 0;
  // pixels [side, side], row by row. Safe to call from several threads at once.
  virtual void read(int64_t i, std::span<uint8_t> pixels) const = 0;
};

}  // namespace yoso
