// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/cifar_files.h"

#include <algorithm>
#include <system_error>

#include "yoso/core/check.h"
#include "yoso/core/file.h"
#include "yoso/core/random.h"
#include "yoso/tasks/folders.h"
#include "yoso/tasks/image_codecs.h"

namespace yoso::cifar {
namespace {

namespace fs = std::filesystem;

struct Source {
  fs::path path;
  uint8_t label;
};

std::vector<Source> list_split(const fs::path& split, Random random) {
  std::vector<Source> sources;
  for (size_t label = 0; label < kClasses.size(); ++label) {
    const fs::path folder = split / kClasses[label];
    for (const fs::path& path : sorted_files(folder, {".jpg", ".jpeg", ".png"}))
      sources.push_back({path, static_cast<uint8_t>(label)});
  }
  for (const fs::path& folder : sorted_folders(split)) {
    const std::string name = folder.filename().string();
    if (std::find(kClasses.begin(), kClasses.end(), name) == kClasses.end())
      fail(folder.string(), ": is no class of CIFAR-10, expected one of ",
           listed(std::vector<std::string>(kClasses.begin(), kClasses.end())));
  }
  shuffle(sources, random);
  return sources;
}

std::string record_of(const Source& source) {
  const std::string name = source.path.string();
  const std::string file = read_text(name);
  const Image image =
      decode_image({reinterpret_cast<const uint8_t*>(file.data()), file.size()}, name);
  if (image.height != kSide || image.width != kSide)
    fail(name, ": is of ", image.height, " x ", image.width, " pixels, expected 32 x 32");
  std::string record(1, static_cast<char>(source.label));
  for (int64_t channel = 0; channel < 3; ++channel) {
    for (int64_t pixel = 0; pixel < kPixels; ++pixel) {
      const int64_t place = pixel * image.channels + (image.channels == 3 ? channel : 0);
      record += static_cast<char>(image.pixels[static_cast<size_t>(place)]);
    }
  }
  return record;
}

}  // namespace

Images::Images(const fs::path& folder, std::span<const char* const> files) {
  for (const char* name : files) {
    const fs::path path = folder / name;
    const auto& file = files_.emplace_back(std::make_unique<MappedFile>(path));
    const auto bytes = std::ssize(file->bytes());
    if (bytes == 0 || bytes % kRecordBytes != 0) {
      fail(path.string(), ": has ", bytes, " bytes, expected a multiple of ", kRecordBytes,
           " (a label and 32 x 32 pixels in three colours)");
    }
    const int64_t records = bytes / kRecordBytes;
    if (per_file_ == 0) per_file_ = records;
    if (records != per_file_) {
      fail(path.string(), ": has ", records, " records, expected ", per_file_, " as in ", files[0]);
    }
    for (int64_t i = 0; i < records; ++i) {
      const uint8_t label = file->bytes()[static_cast<size_t>(i * kRecordBytes)];
      if (label >= kClasses.size())
        fail(path.string(), ": label of record ", i, " is ", int64_t{label}, ", expected 0 to 9");
    }
  }
}

std::span<const uint8_t> Images::record(int64_t i) const {
  const auto& file = files_[static_cast<size_t>(i / per_file_)];
  return file->bytes().subspan(static_cast<size_t>(i % per_file_ * kRecordBytes), kRecordBytes);
}

void Images::read(int64_t i, std::span<uint8_t> pixels) const {
  const uint8_t* red = record(i).data() + 1;
  for (size_t p = 0; p < pixels.size(); ++p)
    pixels[p] = to_grey(red[p], red[kPixels + p], red[2 * kPixels + p]);
}

Written write_from_images(const fs::path& from, const fs::path& folder, uint64_t seed,
                          const std::function<void(int64_t, int64_t)>& progress) {
  const std::vector<Source> train = list_split(from / "train", Random(seed, 0));
  const std::vector<Source> test = list_split(from / "test", Random(seed, 1));
  if (train.empty() || train.size() % kTrainFiles.size() != 0 || test.empty()) {
    fail(from.string(), ": has ", train.size(), " images in train and ", test.size(),
         " in test, expected 50000 and 10000, or at least a multiple of 5 and 1");
  }
  make_folder(folder);
  const FolderLock lock(folder.string());
  std::vector<std::unique_ptr<FileWriter>> files;
  int64_t done = 0;
  const auto total = std::ssize(train) + std::ssize(test);
  const auto write = [&](std::span<const Source> sources, const char* name) {
    FileWriter& file = *files.emplace_back(std::make_unique<FileWriter>((folder / name).string()));
    for (const Source& source : sources) {
      file.write(record_of(source));
      progress(++done, total);
    }
  };
  const size_t share = train.size() / kTrainFiles.size();
  for (size_t i = 0; i < kTrainFiles.size(); ++i)
    write(std::span(train).subspan(i * share, share), kTrainFiles[i]);
  write(test, kTestFiles[0]);
  FileWriter& names =
      *files.emplace_back(std::make_unique<FileWriter>((folder / "batches.meta.txt").string()));
  for (const char* name : kClasses) names.write(join(name, "\n"));
  for (const auto& file : files) file->commit();
  return {std::ssize(train), std::ssize(test)};
}

}  // namespace yoso::cifar
