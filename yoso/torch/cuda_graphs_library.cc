// libyoso_cuda_graphs.so: CudaGraphs by torch's own graphs, which are in libtorch_cuda. Programs do
// not link that library (yoso/torch/load_cuda.h), so this part is opened once it is loaded.
// SPDX-License-Identifier: Apache-2.0
#include <ATen/DeviceAccelerator.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>

#include "yoso/torch/cuda_graphs.h"

namespace yoso {
namespace {

class Graph : public CudaGraph {
 public:
  void replay() override { graph.replay(); }
  at::cuda::CUDAGraph graph;
};

class Graphs : public CudaGraphs {
 public:
  explicit Graphs(c10::DeviceIndex device)
      : device_(device),
        pool_(at::cuda::graph_pool_handle()),
        stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device)) {}

  std::unique_ptr<CudaGraph> capture(const std::function<void()>& work) override {
    auto graph = std::make_unique<Graph>();
    at::accelerator::synchronizeDevice(device_);
    at::accelerator::emptyCache();  // what the graph needs is beside what eager work has kept
    c10::cuda::OptionalCUDAStreamGuard guard(stream_.unwrap());
    // Other threads go on reading batches into memory that they pin.
    graph->graph.capture_begin(pool_, cudaStreamCaptureModeThreadLocal);
    std::exception_ptr fault;
    try {
      work();
    } catch (...) {
      fault = std::current_exception();
    }
    try {
      graph->graph.capture_end();
    } catch (...) {
      guard.reset();
      forget_capture();
      if (!fault) fault = std::current_exception();
    }
    if (!fault) return graph;
    pool_ = at::cuda::graph_pool_handle();  // one that no graph uses any more is not taken again
    std::rethrow_exception(fault);
  }

 private:
  // Where CUDA has given a capture up, torch's graph leaves its allocators and the generator as
  // they are within one: then nothing could be drawn any more.
  void forget_capture() const {
    cudaGraph_t rest = nullptr;
    if (cudaStreamEndCapture(stream_, &rest) == cudaSuccess) cudaGraphDestroy(rest);
    static_cast<void>(cudaGetLastError());
    const auto try_to = [](const auto& act) {
      try {
        act();
      } catch (const c10::Error&) {  // it was ended already
      }
    };
    try_to([&] {
      c10::cuda::CUDACachingAllocator::endAllocateToPool(device_, pool_);
      c10::cuda::CUDACachingAllocator::releasePool(device_, pool_);
    });
    try_to([&] {
      at::getHostAllocator(at::kCUDA)->end_allocate_to_pool(pool_);
      at::getHostAllocator(at::kCUDA)->release_pool(pool_);
    });
    // The same numbers in a new state, which is outside of any capture.
    at::Generator generator = at::cuda::detail::getDefaultCUDAGenerator(device_);
    const std::lock_guard lock(generator.mutex());
    auto* old = static_cast<at::CUDAGeneratorImpl*>(generator.unsafeGetGeneratorImpl());
    at::Generator fresh = at::cuda::detail::createCUDAGenerator(device_);
    auto* state = static_cast<at::CUDAGeneratorImpl*>(fresh.unsafeGetGeneratorImpl());
    state->set_current_seed(old->current_seed());
    state->set_philox_offset_per_thread(old->philox_offset_per_thread());
    old->graphsafe_set_state(state->graphsafe_get_state());
  }

  c10::DeviceIndex device_;
  at::cuda::MempoolId_t pool_;
  c10::cuda::CUDAStream stream_;
};

}  // namespace
}  // namespace yoso

extern "C" __attribute__((visibility("default"))) yoso::CudaGraphs* yoso_make_cuda_graphs(
    c10::DeviceIndex device) {
  return new yoso::Graphs(device);
}
