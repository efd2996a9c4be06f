// SPDX-License-Identifier: Apache-2.0
#include "yoso/torch/load_cuda.h"

#include <ATen/Context.h>
#include <dlfcn.h>

#include <filesystem>

namespace yoso {
namespace {

std::string load() {
  // Without a driver the libraries, which take a second to load, are of no use.
  if (dlopen("libcuda.so.1", RTLD_LAZY) == nullptr) return dlerror();
  Dl_info torch_cpu{};
  dladdr(reinterpret_cast<const void*>(&at::detail::getCUDAHooks), &torch_cpu);
  const auto folder = std::filesystem::path(torch_cpu.dli_fname).parent_path();
  if (dlopen((folder / "libtorch_cuda.so").c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    return dlerror();
  }
  return at::getNumGPUs() == 0 ? "no GPU" : "";
}

}  // namespace

const std::string& load_cuda() {
  static const std::string fault = load();
  return fault;
}

}  // namespace yoso
