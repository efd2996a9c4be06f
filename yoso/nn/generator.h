// States of torch's default generators. Dropout and the hashes of YOSO attention are drawn from
// that of the device that a model is on, the draws of other attention kinds from the CPU's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <mutex>
#include <vector>

namespace yoso::nn {

inline at::Tensor generator_state(at::Device device = at::kCPU) {  // [bytes] uint8, on the CPU
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard lock(generator.mutex());
  return generator.get_state();
}

inline void set_generator_state(const at::Tensor& state, at::Device device = at::kCPU) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard lock(generator.mutex());
  generator.set_state(state);
}

// The states of all generators that a model on `device` draws from: the CPU's, then its device's.
inline std::vector<at::Tensor> generator_states(at::Device device) {
  std::vector<at::Tensor> states{generator_state()};
  if (!device.is_cpu()) states.push_back(generator_state(device));
  return states;
}

// Draws are those of a seed or of states as long as this lives, and go on where they were
// afterwards.
class GeneratorScope {
 public:
  explicit GeneratorScope(int64_t seed, at::Device device = at::kCPU)
      : device_(device), before_(generator_states(device)) {
    at::manual_seed(static_cast<uint64_t>(seed));
  }
  GeneratorScope(const std::vector<at::Tensor>& states, at::Device device)
      : device_(device), before_(generator_states(device)) {
    set(states);
  }
  ~GeneratorScope() { set(before_); }
  GeneratorScope(const GeneratorScope&) = delete;
  GeneratorScope& operator=(const GeneratorScope&) = delete;

 private:
  void set(const std::vector<at::Tensor>& states) const {
    set_generator_state(states[0]);
    if (states.size() > 1) set_generator_state(states[1], device_);
  }

  at::Device device_;
  std::vector<at::Tensor> before_;
};

}  // namespace yoso::nn
