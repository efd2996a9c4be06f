// The state of torch's default CPU generator: dropout and the seeds of hashes are drawn from it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <mutex>

namespace yoso::nn {

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

// Draws are those of a seed or a state as long as this lives, and go on where they were afterwards.
class GeneratorScope {
 public:
  explicit GeneratorScope(int64_t seed) : before_(generator_state()) {
    at::manual_seed(static_cast<uint64_t>(seed));
  }
  explicit GeneratorScope(const at::Tensor& state) : before_(generator_state()) {
    set_generator_state(state);
  }
  ~GeneratorScope() { set_generator_state(before_); }
  GeneratorScope(const GeneratorScope&) = delete;
  GeneratorScope& operator=(const GeneratorScope&) = delete;

 private:
  at::Tensor before_;
};

}  // namespace yoso::nn
