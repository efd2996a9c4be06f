// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/image.h"

#include <numeric>

#include "yoso/core/check.h"
#include "yoso/tasks/cifar_files.h"

namespace yoso {

ImageTask::ImageTask(std::filesystem::path folder, const TaskOptions& options)
    : ImageTask(std::move(folder), OptionReader("image", options)) {}

ImageTask::ImageTask(std::filesystem::path folder, OptionReader reader)
    : PixelTask("image", cifar::kSide, reader),
      folder_(std::move(folder)),
      dev_size_(reader.integer("dev_size", 5000, 1, 1'000'000)),
      options_(reader.finish()) {}

int64_t ImageTask::num_classes() const { return std::ssize(cifar::kClasses); }

std::string ImageTask::class_name(int64_t label) const {
  if (label < 0 || label >= num_classes())
    fail("image: label is ", label, ", expected 0 to ", num_classes() - 1);
  return cifar::kClasses[static_cast<size_t>(label)];
}

PixelTask::Part ImageTask::open(Split split) const {
  using Files = std::span<const char* const>;
  const auto images = std::make_shared<cifar::Images>(
      folder_, split == Split::kTest ? Files(cifar::kTestFiles) : Files(cifar::kTrainFiles));
  int64_t first = 0, end = images->size();
  if (split != Split::kTest) {
    if (dev_size_ >= end)
      fail("image: dev_size is ", dev_size_, ", expected fewer than the ", end, " of train");
    (split == Split::kTrain ? end : first) = end - dev_size_;
  }
  std::vector<int64_t> examples(static_cast<size_t>(end - first));
  std::iota(examples.begin(), examples.end(), first);
  return {images, std::move(examples)};
}

}  // namespace yoso
