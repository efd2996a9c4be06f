// What a measurement must say about where it was made, and how much memory the process has used.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace yoso {

struct Machine {
  std::string cpu;    // "AMD EPYC 9654", "unknown" where the system does not tell
  int64_t cores = 0;  // that this process may use
  double memory_gib = 0;
  std::string simd;  // the level in use: avx3, avx2, ...
};
Machine this_machine();

std::string utc_date();  // "2026-11-24T09:30:00Z"

// What the user typed: "yoso bench attention --tokens 256".
std::string command_line();

// Resident memory of the process in MiB, now and at its highest since start_peak(), or since its
// start where the system cannot begin anew.
double resident_mib();
double peak_mib();
// What the system could give beside, in MiB.
double available_mib();
// Begins a new peak at what is resident now, after giving freed memory back to the system.
void start_peak();

}  // namespace yoso
