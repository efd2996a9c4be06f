// SPDX-License-Identifier: Apache-2.0
#include "yoso/torch/cuda_graphs.h"

#include <dlfcn.h>

#include "yoso/core/check.h"

namespace yoso {

std::unique_ptr<CudaGraphs> make_cuda_graphs(c10::DeviceIndex device) {
  using Make = CudaGraphs* (*)(c10::DeviceIndex);
  static const auto make = [] {
    // Beside libyoso_torch.so, where the linker's search path of the program leads.
    void* library = dlopen("libyoso_cuda_graphs.so", RTLD_NOW);
    if (library == nullptr)
      fail("CUDA graphs: ", dlerror(), ", expected it beside libyoso_torch.so");
    return reinterpret_cast<Make>(dlsym(library, "yoso_make_cuda_graphs"));
  }();
  return std::unique_ptr<CudaGraphs>(make(device));
}

}  // namespace yoso
