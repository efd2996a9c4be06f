// Pathfinder images on disk.
//
//   prepared      images.npy, bytes [n, side, side], and labels.npy, bytes [n]: two files that are
//                 mapped and not read, and that NumPy reads as well
//   as published  the folders of the Long Range Arena: metadata/K.npy, an image a row, which names
//                 imgs/K/sample_I.png and its label
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "yoso/core/file.h"
#include "yoso/tasks/npy.h"
#include "yoso/tasks/pathfinder_generator.h"
#include "yoso/tasks/pixel_images.h"

namespace yoso::pathfinder {

inline constexpr const char* kImagesFile = "images.npy";
inline constexpr const char* kLabelsFile = "labels.npy";

class Images final : public PixelImages {
 public:
  // Throws Error when the files are not there, are cut short, do not belong together or are not of
  // `side`.
  Images(const std::filesystem::path& folder, int64_t side);

  int64_t size() const override { return images_.shape[0]; }
  int64_t label(int64_t i) const override { return labels_.data[static_cast<size_t>(i)]; }
  void read(int64_t i, std::span<uint8_t> pixels) const override;

 private:
  MappedFile images_file_, labels_file_;
  Npy images_, labels_;
};

using Progress = std::function<void(int64_t done, int64_t total)>;

// Draws images 0 to count - 1 on all threads and writes them, prepared; the bytes depend on
// settings and count alone. Files appear under their names when both are whole.
void write_generated(const Settings& settings, int64_t count, const std::filesystem::path& folder,
                     const Progress& progress);

// One row of metadata.
struct Published {
  std::filesystem::path image;
  int64_t label;
};

// The rows of all metadata of a published folder, by number of file. A file may be text, fields
// with spaces between them, or an array of NumPy's texts, whatever its name says. Throws Error with
// file and line.
std::vector<Published> read_metadata(const std::filesystem::path& folder);

// Prepares a published folder. Empty PNG files, of which the published set has some, are left out
// and counted; everything else that is no grey image of side x side is an Error.
struct Converted {
  int64_t images = 0, empty = 0;
};
Converted write_published(const std::filesystem::path& from, int64_t side,
                          const std::filesystem::path& folder, const Progress& progress);

// The first images of a prepared folder or a generator beside each other, `columns` a row, those of
// label 1 framed in white, for a look. Small ones are enlarged to 64 x 64.
void write_sheet(const std::string& path, std::span<const Drawing> drawings, int64_t side,
                 int64_t columns);

}  // namespace yoso::pathfinder
