// CIFAR-10 (Krizhevsky 2009) in its binary layout: files of 10,000 records of 3,073 bytes, a label
// and 1,024 red, green and blue bytes, row by row.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "yoso/core/file.h"
#include "yoso/tasks/pixel_images.h"

namespace yoso::cifar {

inline constexpr int64_t kSide = 32, kPixels = kSide * kSide, kRecordBytes = 1 + 3 * kPixels;
inline constexpr std::array kTrainFiles = {"data_batch_1.bin", "data_batch_2.bin",
                                           "data_batch_3.bin", "data_batch_4.bin",
                                           "data_batch_5.bin"};
inline constexpr std::array kTestFiles = {"test_batch.bin"};
inline constexpr std::array kClasses = {"airplane", "automobile", "bird",  "cat",  "deer",
                                        "dog",      "frog",       "horse", "ship", "truck"};

// The records of some files, grey as the Long Range Arena has them (to_grey). All files are as long
// as each other, so that one that is cut short is found, even at the end of a record.
class Images final : public PixelImages {
 public:
  // Throws Error for a file that is not there, is cut short or holds a label that is no class.
  Images(const std::filesystem::path& folder, std::span<const char* const> files);

  int64_t size() const override { return per_file_ * std::ssize(files_); }
  int64_t label(int64_t i) const override { return record(i)[0]; }
  void read(int64_t i, std::span<uint8_t> pixels) const override;

 private:
  std::span<const uint8_t> record(int64_t i) const;

  std::vector<std::unique_ptr<MappedFile>> files_;
  int64_t per_file_ = 0;  // records
};

// Writes the binary layout of a folder of images, `from`/{train,test}/CLASS/*.{jpg,jpeg,png}, in a
// random order that depends on names and `seed`. As many images a split as there are; those of
// train fill the five files evenly. Calls progress(images so far). Throws Error naming the file for
// what is no 32 x 32 image, and writes nothing then.
struct Written {
  int64_t train = 0, test = 0;
};
Written write_from_images(const std::filesystem::path& from, const std::filesystem::path& folder,
                          uint64_t seed,
                          const std::function<void(int64_t done, int64_t total)>& progress);

}  // namespace yoso::cifar
