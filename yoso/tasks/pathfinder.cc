// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/pathfinder.h"

#include <algorithm>

#include "yoso/core/check.h"
#include "yoso/tasks/pathfinder_files.h"

namespace yoso {

Pathfinder::Pathfinder(const std::string& name, int64_t side, std::filesystem::path folder,
                       const TaskOptions& options)
    : Pathfinder(name, side, std::move(folder), OptionReader(name, options)) {}

Pathfinder::Pathfinder(const std::string& name, int64_t side, std::filesystem::path folder,
                       OptionReader reader)
    : PixelTask(name, side, reader),
      folder_(std::move(folder)),
      side_(side),
      seed_(reader.integer("seed", 0, 0, std::numeric_limits<int64_t>::max())),
      options_(reader.finish()) {}

std::string Pathfinder::class_name(int64_t label) const {
  if (label != 0 && label != 1) fail("pathfinder: label is ", label, ", expected 0 or 1");
  return label == 1 ? "connected" : "apart";
}

PixelTask::Part Pathfinder::open(Split split) const {
  namespace fs = std::filesystem;
  if (fs::is_directory(folder_ / "metadata") && !fs::exists(folder_ / pathfinder::kImagesFile)) {
    fail(folder_.string(), ": holds PNG images, expected prepared ones; ",
         "yoso data pathfinder --from ", folder_.string(), " makes them");
  }
  const auto images = std::make_shared<pathfinder::Images>(folder_, side_);
  const int64_t count = images->size(), dev_begin = count * 8 / 10, test_begin = count * 9 / 10;
  const std::vector<int64_t> order = shuffled(count, seed_);
  const int64_t bounds[] = {0, dev_begin, test_begin, count};
  const auto part = static_cast<size_t>(split);
  std::vector<int64_t> examples(order.begin() + bounds[part], order.begin() + bounds[part + 1]);
  std::sort(examples.begin(), examples.end());
  return {images, std::move(examples)};
}

}  // namespace yoso
