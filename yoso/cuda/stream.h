// Where an operator runs on a GPU: a stream of the current device, and scratch memory in its order.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

struct CUstream_st;

namespace yoso::cuda {

// Operators queue their work on handle() and return at once. What they allocate lives as long as
// the Stream, so use one Stream for one call (or for a few that follow each other): nothing here
// waits for the GPU, and all of it can be captured in a graph.
class Stream {
 public:
  explicit Stream(CUstream_st* handle) : handle_(handle) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  virtual ~Stream() = default;

  CUstream_st* handle() const { return handle_; }

  // `count` elements of T on a boundary of 256 bytes, not initialised. Throws Error saying how many
  // bytes did not fit.
  template <class T>
  T* allocate(int64_t count) {
    return static_cast<T*>(allocate_bytes(count * static_cast<int64_t>(sizeof(T))));
  }

 private:
  virtual void* allocate_bytes(int64_t bytes) = 0;

  CUstream_st* handle_;
};

// Scratch memory from CUDA's own pool (cudaMallocAsync), given back in the order of the stream.
class PoolStream : public Stream {
 public:
  explicit PoolStream(CUstream_st* handle) : Stream(handle) {}
  ~PoolStream() override;

 private:
  void* allocate_bytes(int64_t bytes) override;

  std::vector<void*> blocks_;
};

// Why no operator can run on a GPU here, or null when one can: no driver, no device, or no code for
// the architecture of the current device.
const char* unavailable();

}  // namespace yoso::cuda
