// SPDX-License-Identifier: Apache-2.0
#include "yoso/tasks/task.h"

#include <ATen/ops/ne.h>
#include <ATen/ops/tensor.h>

#include "yoso/core/check.h"

namespace yoso {

const char* name_of(Split split) {
  constexpr const char* kNames[] = {"train", "dev", "test"};
  return kNames[static_cast<size_t>(split)];
}

void check_example(int64_t example, int64_t size, Split split) {
  if (example < 0 || example >= size) {
    fail("batch: example is ", example, ", expected 0 to ", size - 1, " of ", name_of(split));
  }
}

Batch Task::question(std::string_view line) const {
  const std::vector<int64_t> tokens = encode(line);
  const at::Tensor row = at::tensor(tokens, at::kLong).unsqueeze(0);
  return {row, row.ne(0), {}};
}

}  // namespace yoso
