// Images of other programs: PNG by libpng, JPEG by libjpeg-turbo.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace yoso {

struct Image {
  int64_t height = 0, width = 0, channels = 0;  // 1: grey, 3: red, green, blue
  std::vector<uint8_t> pixels;                  // [height, width, channels]
};

// `name` stands in messages; throws Error for what is no whole image. PNG or JPEG is told from the
// first bytes. Images without colours come in grey.
Image decode_image(std::span<const uint8_t> bytes, const std::string& name);

// A grey PNG. Throws Error when it cannot be written.
void write_png(const std::string& path, const Image& image);

// As TensorFlow's rgb_to_grayscale, which made the grey CIFAR-10 of the Long Range Arena: luma in
// float32 of channels in [0, 1], then truncated at half a step up.
inline uint8_t to_grey(uint8_t red, uint8_t green, uint8_t blue) {
  constexpr float kStep = 1.0f / 255;
  const float luma = 0.2989f * (static_cast<float>(red) * kStep) +
                     0.5870f * (static_cast<float>(green) * kStep) +
                     0.1140f * (static_cast<float>(blue) * kStep);
  return static_cast<uint8_t>(luma * 255.5f);
}

}  // namespace yoso
