// What a process that trains sets up once.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>

namespace yoso {

// Becomes true at the first Ctrl-C; the second one ends the process at once.
const std::atomic<bool>* stop_on_signals();

// Every step takes and frees the same tensors. What malloc gives back to the system in between, the
// system must clear again.
void keep_freed_memory();

}  // namespace yoso
