// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/device.h"

#include <ATen/DeviceAccelerator.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <iostream>

#include "yoso/core/check.h"
#include "yoso/torch/load_cuda.h"
#ifdef YOSO_CUDA
#include <cuda_runtime_api.h>

#include "yoso/cuda/stream.h"
#endif

namespace yoso {
namespace {

// Why no GPU can be used, or "".
std::string gpu_fault() {
#ifdef YOSO_CUDA
  const char* fault = cuda::unavailable();
  return fault == nullptr ? load_cuda() : fault;
#else
  return "yoso was built without CUDA";
#endif
}

[[noreturn]] void refuse(const std::string& name, const std::string& expected) {
  fail("--device is '", name, "', expected ", expected);
}

// -1 for the CPU.
int index_of(const std::string& name) {
  if (name == "cpu") return -1;
  if (name == "cuda") return 0;
  constexpr std::string_view kPrefix = "cuda:";
  int index = -1;
  const char* end = name.data() + name.size();
  if (!name.starts_with(kPrefix) ||
      std::from_chars(name.data() + kPrefix.size(), end, index).ptr != end || index < 0 ||
      index > 127) {
    refuse(name, "cpu, cuda or a GPU such as cuda:1");
  }
  return index;
}

}  // namespace

CLI::Option* add_device_option(CLI::App& command, std::string& device) {
  return command.add_option("--device", device,
                            "cpu, cuda or a GPU such as cuda:1 (default: the GPU if there is one)");
}

at::Device choose_device(const std::string& name) {
  if (name.empty()) return gpu_fault().empty() ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
  const int index = index_of(name);
  if (index < 0) return at::kCPU;
  const std::string fault = gpu_fault();
  if (!fault.empty()) refuse(name, "cpu: " + fault);
  if (index >= at::accelerator::deviceCount()) {
    refuse(name, join("cuda:0 to cuda:", at::accelerator::deviceCount() - 1));
  }
  const at::Device device(at::kCUDA, static_cast<at::DeviceIndex>(index));
  at::accelerator::setDeviceIndex(device.index());
  return device;
}

std::vector<std::string> device_names() {
  std::vector<std::string> names{"cpu"};
#ifdef YOSO_CUDA
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) count = 0;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) continue;
    names.push_back(join("cuda:", i, " (", properties.name, ")"));
  }
#endif
  return names;
}

}  // namespace yoso
