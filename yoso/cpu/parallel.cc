// SPDX-License-Identifier: Apache-2.0
#include "yoso/cpu/parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "yoso/core/check.h"

namespace yoso::cpu {
namespace {

// Threads that wait for a job and run their share of it. One job at a time.
class ThreadPool {
 public:
  ~ThreadPool() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void run(int64_t workers, const std::function<void(int64_t)>& body) {
    std::lock_guard one_job_at_a_time(job_mutex_);
    {
      std::lock_guard lock(mutex_);
      while (static_cast<int64_t>(threads_.size()) < workers - 1) {
        const int64_t worker = static_cast<int64_t>(threads_.size()) + 1;
        threads_.emplace_back([this, worker, seen = job_] { serve(worker, seen); });
      }
      body_ = &body;
      workers_ = workers;
      running_ = workers - 1;
      ++job_;
    }
    wake_.notify_all();
    body(0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return running_ == 0; });
    body_ = nullptr;
  }

 private:
  void serve(int64_t worker, uint64_t seen) {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stop_ || job_ != seen; });
      if (stop_) return;
      seen = job_;
      if (worker >= workers_) continue;
      const auto* body = body_;
      lock.unlock();
      (*body)(worker);
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::mutex job_mutex_, mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> threads_;
  const std::function<void(int64_t)>* body_ = nullptr;
  int64_t workers_ = 0, running_ = 0;
  uint64_t job_ = 0;
  bool stop_ = false;
};

std::atomic<int64_t> thread_limit{
    std::max<int64_t>(1, static_cast<int64_t>(std::thread::hardware_concurrency()))};

Executor own_executor() {
  static ThreadPool pool;
  return {
      [] { return thread_limit.load(); },
      [](int64_t workers, const std::function<void(int64_t)>& body) { pool.run(workers, body); }};
}

Executor& executor() {
  static Executor instance = own_executor();
  return instance;
}

thread_local bool inside_parallel_for = false;

// Marks this thread as busy with items for as long as it lives.
class BusyThread {
 public:
  BusyThread() : before_(inside_parallel_for) { inside_parallel_for = true; }
  ~BusyThread() { inside_parallel_for = before_; }

 private:
  bool before_;
};

}  // namespace

int64_t num_threads() { return executor().num_threads(); }

void set_num_threads(int64_t threads) {
  if (threads < 1) fail("set_num_threads: threads is ", threads, ", expected at least 1");
  thread_limit = threads;
}

void set_executor(Executor replacement) { executor() = std::move(replacement); }

void parallel_for(int64_t items, const std::function<void(int64_t, int64_t)>& body) {
  const int64_t workers = inside_parallel_for ? 1 : std::min(items, num_threads());
  if (workers <= 1) {
    BusyThread busy;
    for (int64_t item = 0; item < items; ++item) body(item, 0);
    return;
  }
  std::atomic<int64_t> next{0};
  std::mutex error_mutex;
  std::exception_ptr error;
  executor().run(workers, [&](int64_t worker) {
    BusyThread busy;
    try {
      for (int64_t item; (item = next.fetch_add(1, std::memory_order_relaxed)) < items;) {
        body(item, worker);
      }
    } catch (...) {
      next = items;
      std::lock_guard lock(error_mutex);
      if (!error) error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

}  // namespace yoso::cpu
