// SPDX-License-Identifier: Apache-2.0
#ifdef YOSO_CUDA

#define USE_CUDA  // functions of libtorch_cuda in torch's headers
#include "yoso/torch/runner.h"

#include <dlfcn.h>

#include "yoso/core/check.h"

namespace yoso {
namespace {

// Functions of libtorch_cuda. It is not linked, so that this library loads beside libtorch_cpu
// alone; where a tensor is on a GPU, the process has loaded it.
struct TorchCuda {
  decltype(&aoti_torch_get_current_cuda_stream) current_stream;
  decltype(&aoti_torch_cuda_caching_allocator_raw_alloc) allocate;
  decltype(&aoti_torch_cuda_caching_allocator_raw_delete) free;
};

template <class Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) fail("libtorch_cuda.so: has no ", name, ", expected that of torch 2.11");
}

const TorchCuda& torch_cuda() {
  static const TorchCuda functions = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr)
      fail("libtorch_cuda.so: is not loaded, expected it beside a GPU tensor");
    TorchCuda f{};
    find(library, "aoti_torch_get_current_cuda_stream", f.current_stream);
    find(library, "aoti_torch_cuda_caching_allocator_raw_alloc", f.allocate);
    find(library, "aoti_torch_cuda_caching_allocator_raw_delete", f.free);
    return f;
  }();
  return functions;
}

CUstream_st* current_stream(int32_t device) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(torch_cuda().current_stream(device, &stream));
  return static_cast<CUstream_st*>(stream);
}

}  // namespace

TorchStream::TorchStream(int32_t device) : Stream(current_stream(device)) {}

void* TorchStream::take(int64_t bytes) {
  void* block = nullptr;
  if (torch_cuda().allocate(static_cast<uint64_t>(bytes), &block) != TORCH_SUCCESS) {
    fail("GPU memory: ", bytes, " bytes of scratch memory do not fit, expected them to; a smaller ",
         "batch needs less");
  }
  return block;
}

void TorchStream::give_back(void* block) { torch_cuda().free(block); }

}  // namespace yoso

#endif
