// The state of torch's default CPU generator: dropout and the seeds of hashes are drawn from it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <mutex>

namespace yoso {

inline at::Tensor generator_state() {  // [bytes] uint8
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard lock(generator.mutex());
  return generator.get_state();
}

inline void set_generator_state(const at::Tensor& state) {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard lock(generator.mutex());
  generator.set_state(state);
}

// Draws are those of `seed` as long as this lives, and go on where they were afterwards.
class SeededScope {
 public:
  explicit SeededScope(int64_t seed) : state_(generator_state()) {
    at::manual_seed(static_cast<uint64_t>(seed));
  }
  ~SeededScope() { set_generator_state(state_); }
  SeededScope(const SeededScope&) = delete;
  SeededScope& operator=(const SeededScope&) = delete;

 private:
  at::Tensor state_;
};

}  // namespace yoso
