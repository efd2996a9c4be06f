// image: which of ten things a small photograph shows, CIFAR-10 in grey as in the Long Range Arena:
// 32 x 32 pixels are 1,024 tokens. Reads the official binary files (cifar_files.h), which
// `yoso data image` also makes of folders of JPEG or PNG images.
//
// Options: those of PixelTask; dev_size (5000), the last images of train, which are dev.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "yoso/tasks/pixel_task.h"

namespace yoso {

class ImageTask final : public PixelTask {
 public:
  ImageTask(std::filesystem::path folder, const TaskOptions& options);

  int64_t num_classes() const override;
  std::string class_name(int64_t label) const override;
  TaskOptions resolved_options() const override { return options_; }

 private:
  ImageTask(std::filesystem::path folder, OptionReader reader);
  Part open(Split split) const override;

  std::filesystem::path folder_;
  int64_t dev_size_;
  TaskOptions options_;
};

}  // namespace yoso
