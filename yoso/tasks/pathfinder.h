// pathfinder32, pathfinder64, pathx (128 x 128) and pathfinder256: whether two markers lie on one
// snake of paddles among others, pixel by pixel: 1,024 to 65,536 tokens. Reads what
// `yoso data pathfinder` prepares (pathfinder_files.h).
//
// Options: those of PixelTask; seed (0) of the random choice of 80 % for train, 10 % for dev and
// 10 % for test.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>

#include "yoso/tasks/pixel_task.h"

namespace yoso {

class Pathfinder final : public PixelTask {
 public:
  Pathfinder(const std::string& name, int64_t side, std::filesystem::path folder,
             const TaskOptions& options);

  int64_t num_classes() const override { return 2; }
  std::string class_name(int64_t label) const override;
  TaskOptions resolved_options() const override { return options_; }

 private:
  Pathfinder(const std::string& name, int64_t side, std::filesystem::path folder,
             OptionReader reader);
  Part open(Split split) const override;

  std::filesystem::path folder_;
  int64_t side_, seed_;
  TaskOptions options_;
};

}  // namespace yoso
