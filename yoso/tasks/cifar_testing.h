// Records of CIFAR-10 for tests.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "yoso/tasks/cifar_files.h"

namespace yoso::cifar {

// All pixels of one colour.
inline std::string record(int64_t label, std::array<uint8_t, 3> colour) {
  std::string bytes(1, static_cast<char>(label));
  for (const uint8_t c : colour) bytes += std::string(kPixels, static_cast<char>(c));
  return bytes;
}

}  // namespace yoso::cifar
