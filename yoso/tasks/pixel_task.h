// What tasks share that classify small grey images, read pixel by pixel as a sequence.
//
// Options: mask, what counts as padding; max_train, max_dev, max_test (0: all), examples to use.
//   mask = "nonzero"  black pixels do, as in the YOSO paper's program, whose token 0 is both; the
//                     token of a pixel is its brightness (the default)
//   mask = "all"      every pixel is real; the token of a pixel is its brightness + 1
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "yoso/tasks/pixel_images.h"
#include "yoso/tasks/split_limits.h"
#include "yoso/tasks/task.h"
#include "yoso/tasks/task_options.h"

namespace yoso {

// Opens a split when it is first asked for. The images stay on disk.
class PixelTask : public Task {
 public:
  int64_t vocab_size() const override { return 256 + first_; }
  int64_t max_length() const override { return side_ * side_; }
  int64_t size(Split split) const override;
  Batch batch(Split split, std::span<const int64_t> examples) const override;

  // A line is the path of a PNG or JPEG image of the task's size; colours are made grey.
  std::vector<int64_t> encode(std::string_view line) const override;

 protected:
  struct Part {
    std::shared_ptr<const PixelImages> images;
    std::vector<int64_t> examples;  // which of the images, in their order
  };

  PixelTask(std::string name, int64_t side, OptionReader& reader);

  // Throws Error when the split is not there.
  virtual Part open(Split split) const = 0;

 private:
  const Part& part(Split split) const;

  std::string name_;
  int64_t side_, first_;  // first_: token of a black pixel
  SplitLimits limits_;
  mutable std::mutex mutex_;
  mutable std::array<std::optional<Part>, 3> parts_;
};

}  // namespace yoso
