// Bucket sums on the CPU. Keys add their value rows to the tables of a few hashes at a time, so
// that a row is loaded once for all of them and the tables stay in the second-level cache; queries
// sum the rows they read from the same tables in registers.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <vector>

#include "yoso/cpu/parallel.h"
#include "yoso/cpu/simd.h"
#include "yoso/ops/bucket_attention.h"
#include "yoso/ops/packed_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "yoso/ops/bucket_attention_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "yoso/cpu/transpose-inl.h"

#ifndef YOSO_OPS_BUCKET_ATTENTION_CPU_ONCE
#define YOSO_OPS_BUCKET_ATTENTION_CPU_ONCE
namespace yoso::cpu {

// Hashes whose tables are filled and read together.
constexpr int64_t kHashesAtOnce = 4;

// Tables [hashes][buckets][width] of consecutive hashes and the codes that point into them.
template <class T, class Code>
struct BucketTables {
  T* tables;
  int64_t buckets, width;
  const Code* codes[kHashesAtOnce];
  int64_t hashes;  // up to kHashesAtOnce
};

}  // namespace yoso::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace yoso {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Where the tables and codes of kHashes hashes start. Vector stores may alias anything, so the
// loops below keep these in locals.
template <int kHashes, class T, class Code>
struct Pointers {
  HWY_ATTR HWY_INLINE Pointers(const cpu::BucketTables<T, Code>& t, int64_t column)
      : width(t.width) {
    for (int m = 0; m < kHashes; ++m) {
      table[m] = t.tables + m * t.buckets * t.width + column;
      codes[m] = t.codes[m];
    }
  }
  HWY_ATTR HWY_INLINE T* bucket(int m, int64_t r) const { return table[m] + codes[m][r] * width; }

  T* table[kHashes];
  const Code* codes[kHashes];
  int64_t width;
};

// Adds kVectors vectors of every row to the row's bucket in each of kHashes tables.
template <int kVectors, int kHashes, class T, class Code>
HWY_ATTR void scatter(const cpu::BucketTables<T, Code>& t, int64_t column, const T* rows,
                      int64_t stride, int64_t first, int64_t last) {
  const hn::ScalableTag<T> d;
  constexpr int64_t kLanes = lanes_of(hn::ScalableTag<T>());
  const Pointers<kHashes, T, Code> p(t, column);
  for (int64_t r = first; r < last; ++r) {
    hn::Vec<decltype(d)> v[kVectors];
    for (int k = 0; k < kVectors; ++k) v[k] = hn::LoadU(d, rows + r * stride + column + k * kLanes);
    for (int m = 0; m < kHashes; ++m) {
      T* to = p.bucket(m, r);
      for (int k = 0; k < kVectors; ++k) {
        hn::Store(hn::Add(hn::Load(d, to + k * kLanes), v[k]), d, to + k * kLanes);
      }
    }
  }
}

// Adds to kVectors vectors of every row of `sums` the row's bucket in each of kHashes tables.
template <int kVectors, int kHashes, class T, class Code>
HWY_ATTR void gather(const cpu::BucketTables<T, Code>& t, int64_t column, T* sums, int64_t stride,
                     int64_t first, int64_t last) {
  const hn::ScalableTag<T> d;
  constexpr int64_t kLanes = lanes_of(hn::ScalableTag<T>());
  const Pointers<kHashes, T, Code> p(t, column);
  for (int64_t r = first; r < last; ++r, sums += stride) {
    hn::Vec<decltype(d)> v[kVectors];
    for (int k = 0; k < kVectors; ++k) v[k] = hn::Load(d, sums + column + k * kLanes);
    for (int m = 0; m < kHashes; ++m) {
      const T* from = p.bucket(m, r);
      for (int k = 0; k < kVectors; ++k) v[k] = hn::Add(v[k], hn::Load(d, from + k * kLanes));
    }
    for (int k = 0; k < kVectors; ++k) hn::Store(v[k], d, sums + column + k * kLanes);
  }
}

// Calls body<kVectors>(column) for slices of the width: whole ones of four vectors, then the rest.
template <class T, class Body>
HWY_ATTR HWY_INLINE void for_slices(int64_t width, const Body& body) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  int64_t column = 0;
  for (; column + 4 * lanes <= width; column += 4 * lanes) body.template operator()<4>(column);
  for (; column < width; column += lanes) body.template operator()<1>(column);
}

template <class T, class Code>
HWY_ATTR void scatter_rows(const cpu::BucketTables<T, Code>& t, const T* rows, int64_t stride,
                           int64_t first, int64_t last) {
  for_slices<T>(t.width, [&]<int kVectors>(int64_t column) HWY_ATTR {
    if (t.hashes == cpu::kHashesAtOnce) {
      scatter<kVectors, cpu::kHashesAtOnce>(t, column, rows, stride, first, last);
    } else {
      for (int64_t m = 0; m < t.hashes; ++m) {
        const cpu::BucketTables<T, Code> one{
            t.tables + m * t.buckets * t.width, t.buckets, t.width, {t.codes[m]}, 1};
        scatter<kVectors, 1>(one, column, rows, stride, first, last);
      }
    }
  });
}

template <class T, class Code>
HWY_ATTR void gather_rows(const cpu::BucketTables<T, Code>& t, T* sums, int64_t stride,
                          int64_t first, int64_t last) {
  for_slices<T>(t.width, [&]<int kVectors>(int64_t column) HWY_ATTR {
    if (t.hashes == cpu::kHashesAtOnce) {
      gather<kVectors, cpu::kHashesAtOnce>(t, column, sums, stride, first, last);
    } else {
      for (int64_t m = 0; m < t.hashes; ++m) {
        const cpu::BucketTables<T, Code> one{
            t.tables + m * t.buckets * t.width, t.buckets, t.width, {t.codes[m]}, 1};
        gather<kVectors, 1>(one, column, sums, stride, first, last);
      }
    }
  });
}

// HWY_EXPORT takes no templates.
#define YOSO_INSTANTIATE(T, Code, suffix)                                                   \
  void scatter_##suffix(const cpu::BucketTables<T, Code>& t, const T* rows, int64_t stride, \
                        int64_t first, int64_t last) {                                      \
    scatter_rows(t, rows, stride, first, last);                                             \
  }                                                                                         \
  void gather_##suffix(const cpu::BucketTables<T, Code>& t, T* sums, int64_t stride,        \
                       int64_t first, int64_t last) {                                       \
    gather_rows(t, sums, stride, first, last);                                              \
  }
YOSO_INSTANTIATE(float, uint8_t, float_uint8)
YOSO_INSTANTIATE(float, uint16_t, float_uint16)
YOSO_INSTANTIATE(double, uint8_t, double_uint8)
YOSO_INSTANTIATE(double, uint16_t, double_uint16)
#undef YOSO_INSTANTIATE

}  // namespace HWY_NAMESPACE
}  // namespace yoso
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace yoso {

HWY_EXPORT(scatter_float_uint8);
HWY_EXPORT(scatter_float_uint16);
HWY_EXPORT(scatter_double_uint8);
HWY_EXPORT(scatter_double_uint16);
HWY_EXPORT(gather_float_uint8);
HWY_EXPORT(gather_float_uint16);
HWY_EXPORT(gather_double_uint8);
HWY_EXPORT(gather_double_uint16);

namespace cpu {
namespace {

template <class T, class Code>
struct Kernels {
  void (*scatter)(const BucketTables<T, Code>&, const T*, int64_t, int64_t, int64_t);
  void (*gather)(const BucketTables<T, Code>&, T*, int64_t, int64_t, int64_t);
};

template <class T, class Code>
Kernels<T, Code> choose_kernels() {
  if constexpr (std::is_same_v<T, float> && std::is_same_v<Code, uint8_t>) {
    return {HWY_DYNAMIC_DISPATCH(scatter_float_uint8), HWY_DYNAMIC_DISPATCH(gather_float_uint8)};
  } else if constexpr (std::is_same_v<T, float>) {
    return {HWY_DYNAMIC_DISPATCH(scatter_float_uint16), HWY_DYNAMIC_DISPATCH(gather_float_uint16)};
  } else if constexpr (std::is_same_v<Code, uint8_t>) {
    return {HWY_DYNAMIC_DISPATCH(scatter_double_uint8), HWY_DYNAMIC_DISPATCH(gather_double_uint8)};
  } else {
    return {HWY_DYNAMIC_DISPATCH(scatter_double_uint16),
            HWY_DYNAMIC_DISPATCH(gather_double_uint16)};
  }
}

// Rows that pass through the tables of kHashesAtOnce hashes before the next hashes' turn: with
// those tables (256 KiB at S = 256, V = 64) they should fit the second-level cache.
constexpr int64_t kRowsAtOnce = 2048;

// A plain float sum stops growing at 2^24 equal terms and is wrong by percents long before. So of
// every kKeysPerWindow keys, a bucket that has got kKeysPerPartialSum since the last time adds them
// to its total and starts again: n keys are within (1,087 + n / 64) 2^-24 of the sum of magnitudes.
constexpr int64_t kKeysPerWindow = 1024;
constexpr uint32_t kKeysPerPartialSum = 64;

// Bytes of tables a group may hold at once; beyond, its hashes take turns.
constexpr int64_t kTableBytes = int64_t{256} << 20;

// One set of heads that share keys: every query head reads the sum over all key heads.
template <class T, class Code>
class Group {
 public:
  Group(const BucketAttention& a, const RealRows& queries, const RealRows& keys, int64_t group)
      : a_(a),
        queries_(queries),
        keys_(keys),
        hashes_(a.query_codes.rows),
        buckets_(int64_t{1} << a.code_bits),
        width_(padded_width<T>(a.values.cols)),
        kernels_(choose_kernels<T, Code>()) {
    const int64_t groups = std::min(a.query_codes.heads, a.key_codes.heads);
    query_heads_ = a.query_codes.heads / groups;
    first_query_head_ = group * query_heads_;
    key_heads_ = a.key_codes.heads / groups;
    first_key_head_ = group * key_heads_;
  }

  void run() {
    if (queries_.count() == 0) return;
    const bool small =
        keys_.count() * key_heads_ <= kRowsAtOnce && queries_.count() * query_heads_ <= kRowsAtOnce;
    const int64_t table_bytes = buckets_ * width_ * static_cast<int64_t>(sizeof(T));
    // Short sequences keep one set of tables in the cache; long ones make one pass over the rows.
    const int64_t blocks_at_once =
        small ? 1 : std::max<int64_t>(1, kTableBytes / (table_bytes * kHashesAtOnce));
    const int64_t step = std::min(blocks_at_once * kHashesAtOnce, hashes_);
    const bool one_pass = step >= hashes_;
    tables_ = Buffer<T>(step * buckets_ * width_);
    if (!one_pass) sums_ = Buffer<T>(query_heads_ * queries_.count() * width_);
    for (int64_t m = 0; m < hashes_; m += step) {
      const int64_t last = std::min(m + step, hashes_);
      build(m, last);
      for (int64_t h = 0; h < query_heads_; ++h) read(h, m, last, one_pass);
    }
  }

 private:
  BucketTables<T, Code> block(T* tables, const PackedCodes<Code>& codes, int64_t m,
                              int64_t last) const {
    BucketTables<T, Code> t{tables, buckets_, width_, {}, std::min(kHashesAtOnce, last - m)};
    for (int64_t k = 0; k < t.hashes; ++k) t.codes[k] = codes.hash(m + k);
    return t;
  }

  // Fills the tables of hashes [first, last). Hashes are the parallel items: a table has one
  // writer.
  void build(int64_t first, int64_t last) {
    const int64_t blocks = (last - first + kHashesAtOnce - 1) / kHashesAtOnce;
    const int64_t ranges = std::min(blocks, num_threads());
    std::fill_n(tables_.data(), (last - first) * buckets_ * width_, T{0});
    for (int64_t h = 0; h < key_heads_; ++h) {
      const PackedRows<T> values(a_.values, first_key_head_ + h, keys_);
      const PackedCodes<Code> codes(a_.key_codes, first_key_head_ + h, keys_);
      parallel_for(ranges, [&](int64_t range, int64_t) {
        const int64_t begin = first + blocks * range / ranges * kHashesAtOnce;
        const int64_t end = std::min(first + blocks * (range + 1) / ranges * kHashesAtOnce, last);
        scatter_keys(values, codes, begin, end,
                     tables_.data() + (begin - first) * buckets_ * width_);
      });
    }
  }

  // Adds all keys of a head to the tables of hashes [begin, end).
  void scatter_keys(const PackedRows<T>& values, const PackedCodes<Code>& codes, int64_t begin,
                    int64_t end, T* tables) {
    const int64_t table = buckets_ * width_;
    const bool in_parts = keys_.count() * key_heads_ > 2 * kKeysPerWindow;
    const Buffer<T> partial_sums(in_parts ? (end - begin) * table : 0);
    std::vector<uint32_t> terms(in_parts ? static_cast<size_t>((end - begin) * buckets_) : 0);
    if (in_parts) std::fill_n(partial_sums.data(), (end - begin) * table, T{0});
    T* target = in_parts ? partial_sums.data() : tables;
    for (int64_t from = 0; from < keys_.count(); from += kRowsAtOnce) {
      const int64_t to = std::min(from + kRowsAtOnce, keys_.count());
      for (int64_t m = begin; m < end; m += kHashesAtOnce) {
        const auto t = block(target + (m - begin) * table, codes, m, end);
        for (int64_t r = from; r < to; r += kKeysPerWindow) {
          const int64_t last = std::min(r + kKeysPerWindow, to);
          kernels_.scatter(t, values.data(), values.stride(), r, last);
          for (int64_t k = 0; in_parts && k < t.hashes; ++k) {
            const int64_t first = (m - begin + k) * buckets_;
            for (int64_t i = r; i < last; ++i) ++terms[first + t.codes[k][i]];
            add_partial_sums(kKeysPerPartialSum, terms.data() + first, target + first * width_,
                             tables + first * width_);
          }
        }
      }
    }
    for (int64_t m = 0; in_parts && m < end - begin; ++m) {
      add_partial_sums(1, terms.data() + m * buckets_, target + m * table, tables + m * table);
    }
  }

  // Moves the partial sums of at least `least` terms to the totals.
  void add_partial_sums(uint32_t least, uint32_t* terms, T* partial_sums, T* totals) const {
    for (int64_t s = 0; s < buckets_; ++s) {
      if (terms[s] < least) continue;
      terms[s] = 0;
      T* from = partial_sums + s * width_;
      for (int64_t c = 0; c < width_; ++c) totals[s * width_ + c] += from[c];
      std::fill_n(from, width_, T{0});
    }
  }

  // Reads the tables of hashes [first, last) for one query head and, after the last, writes out.
  void read(int64_t head, int64_t first, int64_t last, bool one_pass) {
    const int64_t h = first_query_head_ + head;
    const PackedCodes<Code> codes(a_.query_codes, h, queries_);
    for_row_blocks(queries_.count(), kRowsAtOnce / 2, [&](int64_t begin, int64_t end) {
      Buffer<T> local(one_pass ? (end - begin) * width_ : 0);
      T* sums = one_pass ? local.data() : sums_.data() + (head * queries_.count() + begin) * width_;
      if (first == 0) std::fill_n(sums, (end - begin) * width_, T{0});
      for (int64_t m = first; m < last; m += kHashesAtOnce) {
        T* table = tables_.data() + (m - first) * buckets_ * width_;
        kernels_.gather(block(table, codes, m, last), sums, width_, begin, end);
      }
      if (last < hashes_) return;
      const T share = T{1} / static_cast<T>(hashes_);
      for (int64_t i = 0; i < (end - begin) * width_; ++i) sums[i] *= share;
      unpack_rows<T>(sums, width_, queries_, begin, end - begin, a_.out, h);
    });
  }

  const BucketAttention& a_;
  const RealRows& queries_;
  const RealRows& keys_;
  int64_t hashes_, buckets_, width_;
  int64_t query_heads_, first_query_head_, key_heads_, first_key_head_;
  Kernels<T, Code> kernels_;
  Buffer<T> tables_;  // [hashes at once][buckets][width]
  Buffer<T> sums_;    // [query heads][queries][width], unless one pass over the hashes suffices
};

template <class T, class Code>
void run_groups(const BucketAttention& a) {
  const auto queries = real_rows(a.query_rows, a.out.batch, a.out.rows);
  const auto keys = real_rows(a.key_rows, a.values.batch, a.values.rows);
  const int64_t groups = std::min(a.query_codes.heads, a.key_codes.heads);
  for_groups(static_cast<int64_t>(queries.size()) * groups, [&](int64_t item) {
    const size_t b = static_cast<size_t>(item / groups);
    Group<T, Code>(a, queries[b], keys[b], item % groups).run();
  });
  for (const RealRows& rows : queries) clear_masked_rows(rows, a.out);
}

}  // namespace

void bucket_attention(const BucketAttention& a) {
  a.check();
  use_simd_level();
  const bool small_codes = a.query_codes.dtype == DType::kUint8;
  if (a.values.dtype == DType::kFloat64) {
    small_codes ? run_groups<double, uint8_t>(a) : run_groups<double, uint16_t>(a);
  } else {
    small_codes ? run_groups<float, uint8_t>(a) : run_groups<float, uint16_t>(a);
  }
}

}  // namespace cpu
}  // namespace yoso
#endif  // HWY_ONCE
