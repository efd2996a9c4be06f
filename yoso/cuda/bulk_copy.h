// Copies of whole blocks from global to shared memory by the copy engine (sm_90 and later), and the
// barriers that tell when they have arrived.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace yoso::cuda {

// In shared memory. One thread makes it, any may copy, arrive or wait.
class CopyBarrier {
 public:
  // A phase ends with so many arrivals, of which expect() is one, and with what it expects.
  __device__ void make(uint32_t arrivals = 1) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address()), "r"(arrivals)
                 : "memory");
  }
  __device__ void arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address()) : "memory");
  }
  // Arrives when what this thread has sent on its way by copy_async (shared_tile.h) is there.
  __device__ void arrive_when_copied() {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(address())
                 : "memory");
  }

  // Copies of so many bytes, each of a multiple of 16 from and to boundaries of 16 bytes.
  __device__ void expect(uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address()),
                 "r"(bytes)
                 : "memory");
  }
  __device__ void copy(void* to, const void* from, uint32_t bytes) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
            "r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))),
        "l"(from), "r"(bytes), "r"(address())
        : "memory");
  }

  // Waits for the end of phase 0, 1, 0, 1, ...
  __device__ void wait(uint32_t phase) {
    uint32_t done = 0;
    while (done == 0) {
      asm volatile(
          "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; "
          "selp.u32 %0, 1, 0, p; }"
          : "=r"(done)
          : "r"(address()), "r"(phase)
          : "memory");
    }
  }

 private:
  __device__ uint32_t address() { return static_cast<uint32_t>(__cvta_generic_to_shared(this)); }

  uint64_t state_;
};

// Makes the barriers of one thread known to the copy engine; before the block's first barrier.
__device__ inline void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Barrier `id` (1 to 15) of some warps of a block, `threads` in all: who gives something does not
// wait for the others, who waits for all does.
__device__ inline void give(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ inline void wait_for_all(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

}  // namespace yoso::cuda
