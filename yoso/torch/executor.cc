// Hands yoso's CPU operators torch's threads: one process, one pool, and torch.set_num_threads is
// obeyed.
// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/stable/ops.h>

#include "yoso/cpu/parallel.h"

namespace {

// Runs when the library is loaded, before any operator can be called.
[[maybe_unused]] const bool set_torch_threads = [] {
  yoso::cpu::set_executor({.num_threads = [] { return int64_t{torch::stable::get_num_threads()}; },
                           .run =
                               [](int64_t workers, const std::function<void(int64_t)>& body) {
                                 torch::stable::parallel_for(0, workers, /*grain_size=*/1,
                                                             [&](int64_t begin, int64_t end) {
                                                               for (int64_t w = begin; w < end; ++w)
                                                                 body(w);
                                                             });
                               }});
  return true;
}();

}  // namespace
