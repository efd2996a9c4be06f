// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/image_codecs.h"

#include <png.h>
#include <turbojpeg.h>

#include <memory>

#include "yoso/core/check.h"
#include "yoso/core/file.h"

namespace yoso {
namespace {

// What libpng allocates for an image under way.
struct PngReading : png_image {
  PngReading() : png_image{} { version = PNG_IMAGE_VERSION; }
  ~PngReading() { png_image_free(this); }
};

constexpr int64_t kMostPixels = 1 << 26;

Image decode_png(std::span<const uint8_t> bytes, const std::string& name) {
  PngReading png;
  if (!png_image_begin_read_from_memory(&png, bytes.data(), bytes.size()))
    fail(name, ": is no PNG image: ", png.message);
  const bool colour = (png.format & PNG_FORMAT_FLAG_COLOR) != 0;
  png.format = colour ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
  Image image{png.height, png.width, colour ? 3 : 1, {}};
  if (image.height * image.width > kMostPixels)
    fail(name, ": is of ", image.height, " x ", image.width, " pixels, expected at most 2^26");
  image.pixels.resize(PNG_IMAGE_SIZE(png));
  // On black, where it is transparent.
  const png_color black{0, 0, 0};
  if (!png_image_finish_read(&png, &black, image.pixels.data(), 0, nullptr))
    fail(name, ": PNG image is damaged: ", png.message);
  return image;
}

Image decode_jpeg(std::span<const uint8_t> bytes, const std::string& name) {
  const std::unique_ptr<void, int (*)(tjhandle)> jpeg(tjInitDecompress(), tjDestroy);
  const auto refuse = [&] { fail(name, ": is no JPEG image: ", tjGetErrorStr2(jpeg.get())); };
  int width = 0, height = 0, sampling = 0, space = 0;
  if (tjDecompressHeader3(jpeg.get(), bytes.data(), bytes.size(), &width, &height, &sampling,
                          &space) != 0) {
    refuse();
  }
  const bool colour = space != TJCS_GRAY;
  Image image{height, width, colour ? 3 : 1, {}};
  if (image.height * image.width > kMostPixels)
    fail(name, ": is of ", height, " x ", width, " pixels, expected at most 2^26");
  image.pixels.resize(static_cast<size_t>(image.height * image.width * image.channels));
  // A file that ends early is a warning to the decoder, an error to us.
  if (tjDecompress2(jpeg.get(), bytes.data(), bytes.size(), image.pixels.data(), width, 0, height,
                    colour ? TJPF_RGB : TJPF_GRAY, TJFLAG_ACCURATEDCT) != 0) {
    refuse();
  }
  return image;
}

}  // namespace

Image decode_image(std::span<const uint8_t> bytes, const std::string& name) {
  if (bytes.empty()) fail(name, ": is empty, expected a PNG or JPEG image");
  if (bytes.size() > 2 && bytes[0] == 0xff && bytes[1] == 0xd8) return decode_jpeg(bytes, name);
  return decode_png(bytes, name);
}

void write_png(const std::string& path, const Image& image) {
  PngReading png;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = PNG_FORMAT_GRAY;
  std::vector<uint8_t> bytes(PNG_IMAGE_PNG_SIZE_MAX(png));
  png_alloc_size_t size = bytes.size();
  if (!png_image_write_to_memory(&png, bytes.data(), &size, 0, image.pixels.data(), 0, nullptr))
    fail(path, ": PNG image cannot be made: ", png.message);
  FileWriter file(path);
  file.write(std::as_bytes(std::span(bytes.data(), size)));
  file.commit();
}

}  // namespace yoso
