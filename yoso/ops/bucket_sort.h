// Rows in the order of their codes, for kernels that work bucket by bucket.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace yoso::cpu {

// The rows of one hash by bucket: bucket s holds rows()[begin(s)] to rows()[begin(s + 1) - 1],
// ascending. A counting sort: O(rows + buckets).
class BucketSort {
 public:
  template <class Code>
  void sort(const Code* codes, int64_t count, int64_t buckets) {
    begin_.assign(static_cast<size_t>(buckets) + 2, 0);
    rows_.resize(static_cast<size_t>(count));
    // Counts two places up: placing a row then moves begin_[s + 1] from the start of bucket s to
    // its end, which is where bucket s + 1 starts.
    uint32_t* next = begin_.data() + 1;
    for (int64_t r = 0; r < count; ++r) ++next[codes[r] + 1];
    for (int64_t s = 0; s < buckets; ++s) next[s + 1] += next[s];
    for (int64_t r = 0; r < count; ++r) rows_[next[codes[r]]++] = static_cast<uint32_t>(r);
  }

  int64_t begin(int64_t s) const { return begin_[static_cast<size_t>(s)]; }
  int64_t size(int64_t s) const { return begin(s + 1) - begin(s); }
  const uint32_t* bucket(int64_t s) const { return rows_.data() + begin(s); }

 private:
  std::vector<uint32_t> begin_, rows_;
};

}  // namespace yoso::cpu
