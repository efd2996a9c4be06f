// What a user chooses about YOSO attention, and how it is spelled. Free of torch, so that recipes can
// be read without it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "yoso/ops/bucket_attention_grad.h"
#include "yoso/ops/hash.h"

namespace yoso {

enum class Mode : uint8_t {
  kExpected,  // the closed form, quadratic in the length
  kSampled,   // the mean over num_hashes hashes, linear in the length
  kAuto,      // the faster one for this device, length and mask (yoso/torch/crossover.h)
};

struct YosoOptions {
  Mode mode = Mode::kAuto;
  Gradient gradient = Gradient::kSurrogate;
  Projection projection = Projection::kHadamard;
  int64_t num_hashes = 32;  // M, used when sampled
  double code_bits = 8;     // T; when sampled an integer from 1 to 16
  // Absent: all. Else the gradient of queries and keys (not of values) comes from a block of so
  // many of the hashes, drawn from the seed: an unbiased estimate of that from all, for less time.
  // A divisor of num_hashes; with the surrogate gradient.
  std::optional<int64_t> backward_hashes = {};
  bool normalize_output = true;      // l2-normalise the output rows (the paper's layer)
  std::optional<int64_t> seed = {};  // absent: from torch's generator of the device
};

// The names of a choice in recipes, in options of the program and of the operators, in the order of
// the enumerators.
template <class Enum>
inline constexpr int kNames = 0;
template <>
inline constexpr std::array kNames<Mode> = {"expected", "sampled", "auto"};
template <>
inline constexpr std::array kNames<Gradient> = {"surrogate", "true"};
template <>
inline constexpr std::array kNames<Projection> = {"hadamard", "gaussian"};

template <class Enum>
requires requires { kNames<Enum>.size(); }
constexpr const char* name_of(Enum choice) { return kNames<Enum>[static_cast<size_t>(choice)]; }

// The choice of that name, if there is one.
template <class Enum>
constexpr std::optional<Enum> named(std::string_view name) {
  const auto found = std::ranges::find(kNames<Enum>, name);
  if (found == kNames<Enum>.end()) return std::nullopt;
  return static_cast<Enum>(found - kNames<Enum>.begin());
}

}  // namespace yoso
