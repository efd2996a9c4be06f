// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/pathfinder_files.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "yoso/core/check.h"
#include "yoso/core/file.h"
#include "yoso/cpu/parallel.h"
#include "yoso/tasks/folders.h"
#include "yoso/tasks/image_codecs.h"
#include "yoso/tasks/lines.h"

namespace yoso::pathfinder {
namespace {

namespace fs = std::filesystem;

constexpr const char* kBytes = "|u1";
constexpr size_t kTextLetters = 32;  // of a field in an array of NumPy's texts

// Writes the two prepared files as images come.
class Writer {
 public:
  Writer(const fs::path& folder, int64_t count, int64_t side)
      : lock_((make_folder(folder), folder.string())),
        images_((folder / kImagesFile).string()),
        labels_((folder / kLabelsFile).string()) {
    images_.write(npy_header(kBytes, std::array{count, side, side}));
    labels_.write(npy_header(kBytes, std::array{count}));
  }

  void add(std::span<const uint8_t> pixels, int64_t label) {
    images_.write(std::as_bytes(pixels));
    const auto byte = static_cast<uint8_t>(label);
    labels_.write(std::as_bytes(std::span(&byte, 1)));
  }

  void commit() {
    images_.commit();
    labels_.commit();
  }

 private:
  FolderLock lock_;
  FileWriter images_, labels_;
};

int64_t number(std::string_view text) {
  int64_t value = -1;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && stop == text.data() + text.size() ? value : -1;
}

// imgs/K sample_I.png I LABEL ...
Published parse_row(const std::vector<std::string>& fields, const fs::path& folder) {
  if (fields.size() < 4)
    fail("row has ", fields.size(), " fields, expected 4 or more: folder, file, number, label");
  const int64_t label = number(fields[3]);
  if (label != 0 && label != 1) fail("label is ", in_quotes(fields[3]), ", expected 0 or 1");
  const fs::path image = fs::path(fields[0]) / fields[1];
  const bool climbs = std::find(image.begin(), image.end(), "..") != image.end();
  if (image.is_absolute() || climbs)
    fail("image is ", in_quotes(image.string()), ", expected a file below the folder");
  return {folder / image, label};
}

std::vector<Published> read_text_rows(const fs::path& path, const fs::path& folder) {
  std::vector<Published> rows;
  std::ifstream in = open_file(path);
  for_each_line(in, path.string(), [&](std::string_view line, int64_t) {
    std::vector<std::string> fields(1);
    for (const char c : line) {
      if (c == ' ') {
        fields.emplace_back();
      } else {
        fields.back() += c;
      }
    }
    rows.push_back(parse_row(fields, folder));
  });
  return rows;
}

// NumPy's texts are letters of 4 bytes; paths and numbers are ASCII.
std::string text_at(std::span<const uint8_t> letters) {
  std::string text;
  for (size_t i = 0; i + 3 < letters.size(); i += 4) {
    if (letters[i] == 0 && letters[i + 1] == 0) break;
    const bool ascii = letters[i] < 0x80 && letters[i + 1] == 0 && letters[i + 2] == 0;
    if (!ascii) fail("a field has a letter that is not ASCII");
    text += static_cast<char>(letters[i]);
  }
  return text;
}

std::vector<Published> read_array_rows(const MappedFile& file, const fs::path& path,
                                       const fs::path& folder) {
  constexpr size_t kFieldBytes = 4 * kTextLetters;
  const Npy npy = parse_npy(file.bytes(), path.string(), join("<U", kTextLetters), kFieldBytes);
  if (npy.shape.size() != 2)
    fail(path.string(), ": has ", npy.shape.size(), " dimensions, expected rows and fields");
  std::vector<Published> rows;
  const auto cols = static_cast<size_t>(npy.shape[1]);
  for (size_t row = 0; row < static_cast<size_t>(npy.shape[0]); ++row) {
    try {
      std::vector<std::string> fields;
      for (size_t col = 0; col < cols; ++col)
        fields.push_back(text_at(npy.data.subspan((row * cols + col) * kFieldBytes, kFieldBytes)));
      rows.push_back(parse_row(fields, folder));
    } catch (const Error& error) {
      fail(path.string(), ":", row + 1, ": ", error.what());
    }
  }
  return rows;
}

std::vector<uint8_t> read_image(const fs::path& path, int64_t side) {
  const MappedFile file(path);
  Image image = decode_image(file.bytes(), path.string());
  if (image.height != side || image.width != side || image.channels != 1) {
    fail(path.string(), ": is of ", image.height, " x ", image.width, " pixels in ", image.channels,
         " colours, expected ", side, " x ", side, " in 1");
  }
  return std::move(image.pixels);
}

}  // namespace

Images::Images(const fs::path& folder, int64_t side)
    : images_file_(folder / kImagesFile),
      labels_file_(folder / kLabelsFile),
      images_(parse_npy(images_file_.bytes(), (folder / kImagesFile).string(), kBytes, 1)),
      labels_(parse_npy(labels_file_.bytes(), (folder / kLabelsFile).string(), kBytes, 1)) {
  const auto& shape = images_.shape;
  if (shape.size() != 3 || shape[1] != side || shape[2] != side) {
    std::string got;
    for (const int64_t size : shape) got += (got.empty() ? "" : " x ") + std::to_string(size);
    fail((folder / kImagesFile).string(), ": is of ", got, ", expected images of ", side, " x ",
         side);
  }
  if (labels_.shape.size() != 1 || labels_.shape[0] != shape[0]) {
    fail((folder / kLabelsFile).string(), ": has ", labels_.data.size(), " labels, expected ",
         shape[0], ", one an image");
  }
  for (size_t i = 0; i < labels_.data.size(); ++i) {
    if (labels_.data[i] > 1)
      fail((folder / kLabelsFile).string(), ": label ", i, " is ", int64_t{labels_.data[i]},
           ", expected 0 or 1");
  }
}

void Images::read(int64_t i, std::span<uint8_t> pixels) const {
  const auto image = images_.data.subspan(static_cast<size_t>(i) * pixels.size(), pixels.size());
  std::copy(image.begin(), image.end(), pixels.begin());
}

void write_generated(const Settings& settings, int64_t count, const fs::path& folder,
                     const Progress& progress) {
  if (count < 1 || count > 100'000'000)
    fail("pathfinder: count is ", count, ", expected 1 to 100000000");
  const Generator generator(settings);
  Writer writer(folder, count, settings.side);
  constexpr int64_t kRound = 256;
  std::vector<Drawing> drawings(kRound);
  for (int64_t first = 0; first < count; first += kRound) {
    const int64_t size = std::min(kRound, count - first);
    cpu::parallel_for(size, [&](int64_t i, int64_t) {
      drawings[static_cast<size_t>(i)] = generator.draw(static_cast<uint64_t>(first + i));
    });
    for (const Drawing& d : std::span(drawings).first(static_cast<size_t>(size)))
      writer.add(d.pixels, d.label);
    progress(first + size, count);
  }
  writer.commit();
}

std::vector<Published> read_metadata(const fs::path& folder) {
  const fs::path metadata = folder / "metadata";
  std::vector<fs::path> files = sorted_files(metadata, {".npy"});
  std::stable_sort(files.begin(), files.end(), [](const fs::path& a, const fs::path& b) {
    return number(a.stem().string()) < number(b.stem().string());
  });
  if (files.empty()) fail(metadata.string(), ": has no .npy files, expected 0.npy and so on");
  std::vector<Published> all;
  for (const fs::path& path : files) {
    const MappedFile file(path);
    const std::vector<Published> rows =
        is_npy(file.bytes()) ? read_array_rows(file, path, folder) : read_text_rows(path, folder);
    if (rows.empty()) fail(path.string(), ": has no rows, expected one an image");
    all.insert(all.end(), rows.begin(), rows.end());
  }
  return all;
}

Converted write_published(const fs::path& from, int64_t side, const fs::path& folder,
                          const Progress& progress) {
  Settings{.side = side}.check();
  std::vector<Published> rows = read_metadata(from);
  const auto named = std::ssize(rows);
  std::erase_if(rows, [](const Published& row) {
    std::error_code error;
    const auto bytes = fs::file_size(row.image, error);
    if (error) fail(row.image.string(), ": cannot be read: ", error.message());
    return bytes == 0;
  });
  if (rows.empty()) fail(from.string(), ": has only empty images");
  const auto count = std::ssize(rows);
  Writer writer(folder, count, side);
  constexpr int64_t kRound = 1024;
  std::vector<std::vector<uint8_t>> images(kRound);
  for (int64_t first = 0; first < count; first += kRound) {
    const int64_t size = std::min(kRound, count - first);
    cpu::parallel_for(size, [&](int64_t i, int64_t) {
      images[static_cast<size_t>(i)] = read_image(rows[static_cast<size_t>(first + i)].image, side);
    });
    for (int64_t i = 0; i < size; ++i)
      writer.add(images[static_cast<size_t>(i)], rows[static_cast<size_t>(first + i)].label);
    progress(first + size, count);
  }
  writer.commit();
  return {count, named - count};
}

void write_sheet(const std::string& path, std::span<const Drawing> drawings, int64_t side,
                 int64_t columns) {
  constexpr uint8_t kBetween = 96, kFrame = 255;
  const int64_t zoom = std::max<int64_t>(1, 64 / side);
  const int64_t cell = zoom * side + 4, rows = (std::ssize(drawings) + columns - 1) / columns;
  Image sheet{rows * cell, columns * cell, 1, {}};
  sheet.pixels.assign(static_cast<size_t>(sheet.height * sheet.width), kBetween);
  for (int64_t i = 0; i < std::ssize(drawings); ++i) {
    const Drawing& d = drawings[static_cast<size_t>(i)];
    const int64_t top = i / columns * cell, left = i % columns * cell;
    for (int64_t y = 0; y < cell; ++y) {
      for (int64_t x = 0; x < cell; ++x) {
        const int64_t edge = std::min({y, x, cell - 1 - y, cell - 1 - x});
        uint8_t& pixel = sheet.pixels[static_cast<size_t>((top + y) * sheet.width + left + x)];
        if (edge == 1 && d.label == 1) pixel = kFrame;
        if (edge > 1) pixel = d.pixels[static_cast<size_t>((y - 2) / zoom * side + (x - 2) / zoom)];
      }
    }
  }
  write_png(path, sheet);
}

}  // namespace yoso::pathfinder
