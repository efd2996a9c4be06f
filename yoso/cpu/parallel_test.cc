// SPDX-License-Identifier: Apache-2.0
#include "yoso/cpu/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include "yoso/core/check.h"

namespace yoso::cpu {
namespace {

// Restores the number of threads.
class ParallelForTest : public ::testing::Test {
 protected:
  ~ParallelForTest() override { set_num_threads(before_); }

 private:
  int64_t before_ = num_threads();
};

TEST_F(ParallelForTest, RunsEveryItemOnceOnAThreadWithANumber) {
  for (int64_t threads : {1, 2, 5, 16}) {
    set_num_threads(threads);
    EXPECT_EQ(num_threads(), threads);
    for (int64_t items : {0, 1, 2, 3, 7, 100, 10007}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(items));
      std::atomic<int64_t> wrong_workers{0};
      parallel_for(items, [&](int64_t item, int64_t worker) {
        ++runs[static_cast<size_t>(item)];
        wrong_workers += worker < 0 || worker >= threads;
      });
      for (const auto& count : runs) ASSERT_EQ(count, 1) << items << " items, " << threads;
      EXPECT_EQ(wrong_workers, 0);
    }
  }
}

// Two items that wait for each other need two threads, with different numbers.
TEST_F(ParallelForTest, RunsItemsAtOnce) {
  set_num_threads(2);
  std::atomic<int> arrived{0};
  int64_t workers[2];
  parallel_for(2, [&](int64_t item, int64_t worker) {
    workers[item] = worker;
    ++arrived;
    while (arrived < 2) std::this_thread::yield();
  });
  EXPECT_NE(workers[0], workers[1]);
}

// A worker's number belongs to one thread for the length of the call: scratch memory is not shared.
TEST_F(ParallelForTest, NumbersAreNotShared) {
  set_num_threads(5);
  std::vector<std::atomic<int>> busy(5);
  std::atomic<int> shared{0};
  parallel_for(2000, [&](int64_t, int64_t worker) {
    shared += ++busy[static_cast<size_t>(worker)] != 1;
    std::this_thread::yield();
    --busy[static_cast<size_t>(worker)];
  });
  EXPECT_EQ(shared, 0);
}

TEST_F(ParallelForTest, RethrowsAfterAllHaveStopped) {
  for (int64_t threads : {1, 2, 5}) {
    set_num_threads(threads);
    std::atomic<int> running{0};
    std::string message;
    try {
      parallel_for(1000, [&](int64_t item, int64_t) {
        struct Mark {
          std::atomic<int>& count;
          explicit Mark(std::atomic<int>& running) : count(running) { ++count; }
          ~Mark() { --count; }
        } mark(running);
        if (item == 3) throw Error("item 3");
      });
    } catch (const Error& error) {
      EXPECT_EQ(running, 0);
      message = error.what();
    }
    EXPECT_EQ(message, "item 3");
    // And it goes on working.
    std::atomic<int> runs{0};
    parallel_for(100, [&](int64_t, int64_t) { ++runs; });
    EXPECT_EQ(runs, 100);
  }
}

TEST_F(ParallelForTest, NestedCallsStayOnTheirThread) {
  set_num_threads(4);
  std::atomic<int> runs{0}, strayed{0};
  parallel_for(8, [&](int64_t, int64_t) {
    const auto thread = std::this_thread::get_id();
    parallel_for(10, [&](int64_t, int64_t worker) {
      ++runs;
      strayed += std::this_thread::get_id() != thread || worker != 0;
    });
  });
  EXPECT_EQ(runs, 80);
  EXPECT_EQ(strayed, 0);
}

TEST_F(ParallelForTest, MayBeCalledFromSeveralThreads) {
  set_num_threads(3);
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int round = 0; round < 50; ++round)
        parallel_for(20, [&](int64_t item, int64_t) { sum += item; });
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sum, 4 * 50 * 190);
}

TEST_F(ParallelForTest, MoreAndFewerThreadsFollowEachOther) {
  for (int64_t threads : {2, 7, 3, 1, 9, 2}) {
    set_num_threads(threads);
    std::atomic<int64_t> sum{0}, highest{0};
    parallel_for(500, [&](int64_t item, int64_t worker) {
      sum += item;
      for (int64_t seen = highest; worker > seen && !highest.compare_exchange_weak(seen, worker);) {
      }
    });
    EXPECT_EQ(sum, 500 * 499 / 2);
    EXPECT_LT(highest, threads);
  }
}

TEST_F(ParallelForTest, RefusesLessThanOneThread) {
  for (int64_t threads : {0, -3}) {
    try {
      set_num_threads(threads);
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.what(),
                join("set_num_threads: threads is ", threads, ", expected at least 1"));
    }
  }
}

TEST_F(ParallelForTest, RunsOnTheExecutorThatIsSet) {
  // Last of this process: there is no way back to our own pool.
  std::vector<int64_t> workers_asked;
  set_executor({[] { return int64_t{3}; },
                [&](int64_t workers, const std::function<void(int64_t)>& body) {
                  workers_asked.push_back(workers);
                  for (int64_t worker = workers; worker-- > 0;) body(worker);
                }});
  set_num_threads(7);
  EXPECT_EQ(num_threads(), 3);
  std::vector<int> runs(10);
  parallel_for(10, [&](int64_t item, int64_t) { ++runs[static_cast<size_t>(item)]; });
  EXPECT_EQ(runs, std::vector<int>(10, 1));
  parallel_for(2, [&](int64_t, int64_t worker) { EXPECT_LT(worker, 2); });
  EXPECT_EQ(workers_asked, (std::vector<int64_t>{3, 2}));
}

}  // namespace
}  // namespace yoso::cpu
