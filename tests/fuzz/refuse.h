// What a reader may do with bytes that it cannot read: throw Error with a message of one line.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <cstring>

#include "yoso/core/check.h"

namespace yoso {

// Calls read(); an Error is fine, any other exception or a message of two lines ends the fuzzer.
template <class F>
void read_or_refuse(F&& read) {
  try {
    read();
  } catch (const Error& error) {
    if (std::strchr(error.what(), '\n') != nullptr) std::abort();
  }
}

}  // namespace yoso
