// Torch's CUDA part, for programs: they link libtorch_cpu alone, so that they also run where there
// is nothing of CUDA.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace yoso {

// Loads libtorch_cuda from the folder of libtorch_cpu. Returns why torch cannot use a GPU here, or
// "" when it can. To be called before torch is used for anything: torch asks once what it has.
const std::string& load_cuda();

}  // namespace yoso
