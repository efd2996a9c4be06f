// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/image_codecs.h"

#include <gmock/gmock.h>

#include "yoso/core/testing.h"

namespace yoso {
namespace {

using testing::StartsWith;

Image decode(const std::string& bytes) {
  return decode_image({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "a");
}

TEST(ImageCodecs, ReadsThePngThatItWrites) {
  const TestFolder folder;
  Image image{3, 5, 1, {}};
  for (int i = 0; i < 15; ++i) image.pixels.push_back(static_cast<uint8_t>(17 * i));
  write_png(folder / "a.png", image);
  const Image read = decode(folder.read("a.png"));
  EXPECT_EQ(read.height, 3);
  EXPECT_EQ(read.width, 5);
  EXPECT_EQ(read.channels, 1);
  EXPECT_EQ(read.pixels, image.pixels);
}

TEST(ImageCodecs, SaysWhatIsNoImage) {
  const TestFolder folder;
  write_png(folder / "a.png", {2, 2, 1, {1, 2, 3, 4}});
  const std::string png = folder.read("a.png");
  const auto message = [](const std::string& bytes) { return error_of([&] { decode(bytes); }); };
  EXPECT_EQ(message(""), "a: is empty, expected a PNG or JPEG image");
  EXPECT_THAT(message("text"), StartsWith("a: is no PNG image: "));
  EXPECT_THAT(message(png.substr(0, png.size() - 16)), StartsWith("a: PNG image is damaged: "));
  std::string flipped = png;
  flipped[png.size() - 13] ^= 1;  // of the checksum of the pixels: 12 bytes of IEND follow it
  EXPECT_THAT(message(flipped), StartsWith("a: PNG image is damaged: "));
  EXPECT_THAT(message("\xff\xd8\xff nothing"), StartsWith("a: is no JPEG image: "));
  EXPECT_EQ(message(png), "no error");
}

// Values of tf.image.rgb_to_grayscale as its source computes them.
TEST(ImageCodecs, GreyIsThatOfTheLongRangeArena) {
  EXPECT_EQ(to_grey(0, 0, 0), 0);
  EXPECT_EQ(to_grey(255, 255, 255), 255);
  EXPECT_EQ(to_grey(255, 0, 0), 76);       // 0.2989 * 255.5 = 76.37
  EXPECT_EQ(to_grey(0, 255, 0), 149);      // 149.98
  EXPECT_EQ(to_grey(0, 0, 255), 29);       // 29.13
  EXPECT_EQ(to_grey(100, 150, 200), 141);  // (0.11722 + 0.34529 + 0.08941) * 255.5 = 141.02
}

}  // namespace
}  // namespace yoso
