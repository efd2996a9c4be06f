// What tasks share whose examples are byte sequences with one label each.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <mutex>
#include <optional>

#include "yoso/tasks/examples.h"
#include "yoso/tasks/task.h"

namespace yoso {

// Reads a split when it is first asked for and keeps it.
class StoredTask : public Task {
 public:
  int64_t size(Split split) const override;
  int64_t length(Split split, int64_t example) const override;
  Batch batch(Split split, std::span<const int64_t> examples) const override;

 protected:
  // Throws Error when the split is not there.
  virtual Examples read(Split split) const = 0;

 private:
  const Examples& stored(Split split) const;

  mutable std::mutex mutex_;
  mutable std::array<std::optional<Examples>, 3> splits_;
};

}  // namespace yoso
