// Which instruction set CPU kernels run on. Kernels are written once with Highway and compiled for
// each level; the best one the processor has is chosen at run time.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace yoso::cpu {

// Levels from best to worst: avx3 (AVX-512 F/BW/DQ/VL), avx2, sse4, scalar (any x86-64).
std::vector<std::string> simd_levels();            // compiled into this library
std::vector<std::string> supported_simd_levels();  // the ones this processor can run

// The level in use. The environment variable YOSO_SIMD names it, else it is the best supported one.
// Throws Error when the variable names an unknown or unsupported level.
std::string simd_level();

// First line of every dispatching operator: makes YOSO_SIMD effective. Throws as simd_level().
void use_simd_level();

}  // namespace yoso::cpu
