// How CPU code runs on several threads. Results never depend on how many there are: an item owns
// what it writes, and which thread runs it is nobody's business.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

namespace yoso::cpu {

// Threads that parallel_for may use, the caller included. At first: the number of cores.
int64_t num_threads();

// `threads` >= 1; throws Error otherwise. Has no effect while an executor is set.
void set_num_threads(int64_t threads);

// Someone else's thread pool. `run(workers, body)` calls body(0) .. body(workers - 1), possibly at
// once, and returns when all have returned. One process, one pool: the torch layer sets torch's.
struct Executor {
  std::function<int64_t()> num_threads;
  std::function<void(int64_t workers, const std::function<void(int64_t)>& body)> run;
};
void set_executor(Executor executor);

// Calls body(item, worker) for every item in [0, items), in any order, on up to num_threads()
// threads; worker < num_threads() names the thread, so that it can keep scratch memory. The first
// exception is rethrown after all have stopped. Nested calls run on the calling thread.
void parallel_for(int64_t items, const std::function<void(int64_t item, int64_t worker)>& body);

// Calls body(group) for every group. Many groups: a thread each. Few: one after the other, and
// whatever parallel_for the body calls has all threads.
template <class Body>
void for_groups(int64_t groups, const Body& body) {
  if (groups >= 2 * num_threads()) {
    parallel_for(groups, [&](int64_t group, int64_t) { body(group); });
  } else {
    for (int64_t group = 0; group < groups; ++group) body(group);
  }
}

}  // namespace yoso::cpu
