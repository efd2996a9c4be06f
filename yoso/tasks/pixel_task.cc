// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/pixel_task.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "yoso/core/check.h"
#include "yoso/core/file.h"
#include "yoso/tasks/image_codecs.h"
#include "yoso/tasks/lines.h"

namespace yoso {
namespace {

int64_t token_of_black(const std::string& name, const std::string& mask) {
  if (mask == "nonzero") return 0;
  if (mask == "all") return 1;
  fail(name, ": mask is ", in_quotes(mask), ", expected nonzero or all");
}

}  // namespace

PixelTask::PixelTask(std::string name, int64_t side, OptionReader& reader)
    : name_(std::move(name)),
      side_(side),
      first_(token_of_black(name_, reader.text("mask", "nonzero"))),
      limits_(reader) {}

int64_t PixelTask::size(Split split) const { return std::ssize(part(split).examples); }

Batch PixelTask::batch(Split split, std::span<const int64_t> examples) const {
  const Part& all = part(split);
  const auto rows = static_cast<int64_t>(examples.size()), cols = max_length();
  Batch batch{at::empty({rows, cols}, at::kLong), at::empty({rows, cols}, at::kBool),
              at::empty({rows}, at::kLong)};
  auto* tokens = batch.tokens.mutable_data_ptr<int64_t>();
  auto* mask = batch.mask.mutable_data_ptr<bool>();
  auto* labels = batch.labels.mutable_data_ptr<int64_t>();
  std::vector<uint8_t> pixels(static_cast<size_t>(cols));
  for (const int64_t i : examples) {
    check_example(i, std::ssize(all.examples), split);
    const int64_t image = all.examples[static_cast<size_t>(i)];
    all.images->read(image, pixels);
    for (const uint8_t pixel : pixels) {
      const int64_t token = pixel + first_;
      *tokens++ = token;
      *mask++ = token != 0;
    }
    *labels++ = all.images->label(image);
  }
  return batch;
}

std::vector<int64_t> PixelTask::encode(std::string_view line) const {
  const std::string path(line);
  const MappedFile file(path);
  const Image image = decode_image(file.bytes(), path);
  if (image.height != side_ || image.width != side_) {
    fail(path, ": is of ", image.height, " x ", image.width, " pixels, expected ", side_, " x ",
         side_);
  }
  std::vector<int64_t> tokens;
  for (size_t i = 0; i < image.pixels.size(); i += static_cast<size_t>(image.channels)) {
    const uint8_t* p = &image.pixels[i];
    tokens.push_back((image.channels == 3 ? to_grey(p[0], p[1], p[2]) : p[0]) + first_);
  }
  return tokens;
}

const PixelTask::Part& PixelTask::part(Split split) const {
  std::lock_guard lock(mutex_);
  std::optional<Part>& part = parts_[static_cast<size_t>(split)];
  if (!part) {
    Part opened = open(split);
    limits_.apply(split, opened.examples);
    if (opened.examples.empty())
      fail(name_, ": has no examples for ", name_of(split), ", expected 1 or more");
    part = std::move(opened);
  }
  return *part;
}

}  // namespace yoso
