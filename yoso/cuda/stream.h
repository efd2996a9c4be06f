// Where an operator runs on a GPU: a stream of the current device, and scratch memory in its order.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

struct CUstream_st;

namespace yoso::cuda {

// Operators queue their work on handle() and return at once: nothing here waits for the GPU, and
// all of it can be captured in a graph.
class Stream {
 public:
  explicit Stream(CUstream_st* handle) : handle_(handle) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  virtual ~Stream() = default;

  CUstream_st* handle() const { return handle_; }

  // `count` elements of T on a boundary of 256 bytes, not initialised; they live as long as the
  // innermost Scope. Throws Error saying how many bytes did not fit.
  template <class T>
  T* allocate(int64_t count) {
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    if (bytes == 0) return nullptr;
    return static_cast<T*>(blocks_.emplace_back(take(bytes)));
  }

  // Gives back what was allocated while it lived, in the order of the stream: work that is queued
  // already may still use it.
  class Scope {
   public:
    explicit Scope(Stream& stream) : stream_(stream), kept_(stream.blocks_.size()) {}
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() {
      for (; stream_.blocks_.size() > kept_; stream_.blocks_.pop_back()) {
        stream_.give_back(stream_.blocks_.back());
      }
    }

   private:
    Stream& stream_;
    size_t kept_;
  };

 private:
  virtual void* take(int64_t bytes) = 0;
  virtual void give_back(void* block) = 0;

  CUstream_st* handle_;
  std::vector<void*> blocks_;
};

// Scratch memory from CUDA's own pool (cudaMallocAsync).
class PoolStream : public Stream {
 public:
  explicit PoolStream(CUstream_st* handle) : Stream(handle) {}

 private:
  void* take(int64_t bytes) override;
  void give_back(void* block) override;
};

// Why no operator can run on a GPU here, or null when one can: no driver, no device, or no code for
// the architecture of the current device.
const char* unavailable();

}  // namespace yoso::cuda
