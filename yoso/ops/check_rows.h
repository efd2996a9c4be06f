// Checks that several operators share: two sides (queries and keys), their masks and offsets.
// Messages are "operator: what is got, expected ...".
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "yoso/core/array.h"
#include "yoso/core/check.h"

namespace yoso {

// An array with elements must have them somewhere.
inline void check_present(const char* op, const char* name, const ConstArray& a) {
  if (a.data == nullptr && a.size() > 0) fail(op, ": ", name, " is null, expected an array");
}

// `name` of `op` must be present, [batch, heads, rows, cols] and floating.
inline void check_floating(const char* op, const char* name, const ConstArray& a, int64_t batch,
                           int64_t heads, int64_t rows, int64_t cols) {
  if (!is_floating(a.dtype)) {
    fail(op, ": ", name, " is ", name_of(a.dtype), ", expected a floating type");
  }
  const int64_t got[] = {a.batch, a.heads, a.rows, a.cols};
  const int64_t expected[] = {batch, heads, rows, cols};
  const char* extents[] = {"batch", "heads", "rows", "cols"};
  for (int i = 0; i < 4; ++i) {
    if (got[i] != expected[i]) {
      fail(op, ": ", name, ".", extents[i], " is ", got[i], ", expected ", expected[i]);
    }
  }
  check_present(op, name, a);
}

// As above; `a` is double exactly when `like` is.
inline void check_floating_like(const char* op, const char* name, const ConstArray& a,
                                const ConstArray& like, int64_t batch, int64_t heads, int64_t rows,
                                int64_t cols) {
  check_floating(op, name, a, batch, heads, rows, cols);
  if ((a.dtype == DType::kFloat64) != (like.dtype == DType::kFloat64)) {
    fail(op, ": ", name, " is ", name_of(a.dtype), ", expected a type that goes with ",
         name_of(like.dtype));
  }
}

// A row scale [B, H, 1, N] of the accumulation type of `x` [B, H, N, *], or absent.
inline void check_scale(const char* op, const char* name, const ConstArray& scale,
                        const ConstArray& x) {
  if (scale.data == nullptr) return;
  check_floating(op, name, scale, x.batch, x.heads, 1, x.rows);
  const DType expected = x.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  if (scale.dtype != expected) {
    fail(op, ": ", name, " is ", name_of(scale.dtype), ", expected ", name_of(expected));
  }
}

// Width of a row of queries, keys or values.
inline void check_width(const char* op, const char* name, int64_t width) {
  if (width < 1 || width > 256) {
    fail(op, ": ", name, ".cols is ", width, ", expected 1 to 256");
  }
}

// Offsets of one side against the arrays' batch and rows. Reads them where they are on the host.
inline void check_rows(const char* op, const char* name, const Rows& side, int64_t batch,
                       int64_t rows, Offsets allowed) {
  if (side.longest < 0 || (side.longest > 0 && side.offsets == nullptr)) {
    fail(op, ": ", name, ".longest is ", side.longest,
         side.longest < 0 ? ", expected at least 0" : ", expected 0 without offsets");
  }
  if (side.offsets == nullptr) return;
  if (batch != 1) {
    fail(op, ": batch is ", batch, ", expected 1 with ", name, ".offsets (ragged sequences)");
  }
  if (side.sequences < 0) {
    fail(op, ": ", name, ".sequences is ", side.sequences, ", expected at least 0");
  }
  if (side.longest > 0 && allowed == Offsets::kOnHost) {
    fail(op, ": ", name, ".longest is ", side.longest, ", expected 0: offsets in host memory");
  }
  if (side.longest > 0) return;
  if (side.offsets[0] != 0) {
    fail(op, ": ", name, ".offsets[0] is ", side.offsets[0], ", expected 0");
  }
  for (int64_t b = 0; b < side.sequences; ++b) {
    if (side.offsets[b + 1] < side.offsets[b]) {
      fail(op, ": ", name, ".offsets[", b + 1, "] is ", side.offsets[b + 1],
           ", expected at least offsets[", b, "] = ", side.offsets[b]);
    }
  }
  if (side.offsets[side.sequences] != rows) {
    fail(op, ": ", name, ".offsets[", side.sequences, "] is ", side.offsets[side.sequences],
         ", expected the number of rows = ", rows);
  }
}

// Codes of both sides: [B, Hq, M, Nq] and [B, Hk, M, Nk] of the type for `code_bits` bits.
inline void check_codes(const char* op, const ConstArray& queries, const ConstArray& keys,
                        int64_t code_bits) {
  if (code_bits < 1 || code_bits > 16) {
    fail(op, ": code_bits is ", code_bits, ", expected 1 to 16");
  }
  const DType expected = code_bits <= 8 ? DType::kUint8 : DType::kUint16;
  const auto check_type = [&](const char* name, const ConstArray& codes) {
    if (codes.dtype != expected) {
      fail(op, ": ", name, " is ", name_of(codes.dtype), ", expected ", name_of(expected));
    }
  };
  check_type("query_codes", queries);
  check_type("key_codes", keys);
  if (queries.rows < 1) {
    fail(op, ": query_codes.rows (hashes) is ", queries.rows, ", expected at least 1");
  }
  if (keys.batch != queries.batch) {
    fail(op, ": key_codes.batch is ", keys.batch, ", expected query_codes.batch = ", queries.batch);
  }
  if (keys.rows != queries.rows) {
    fail(op, ": key_codes.rows is ", keys.rows, ", expected query_codes.rows = ", queries.rows);
  }
  check_present(op, "query_codes", queries);
  check_present(op, "key_codes", keys);
}

// Both sides are padded or both are ragged, with the same number of sequences.
inline void check_sides(const char* op, const Rows& queries, const Rows& keys, int64_t batch,
                        int64_t num_queries, int64_t num_keys, Offsets allowed) {
  if ((queries.offsets == nullptr) != (keys.offsets == nullptr)) {
    fail(op, ": ", queries.offsets ? "key" : "query",
         "_rows.offsets is absent, expected offsets for both sides or for none");
  }
  check_rows(op, "query_rows", queries, batch, num_queries, allowed);
  check_rows(op, "key_rows", keys, batch, num_keys, allowed);
  if (queries.offsets != nullptr && queries.sequences != keys.sequences) {
    fail(op, ": key_rows.sequences is ", keys.sequences,
         ", expected query_rows.sequences = ", queries.sequences);
  }
  if ((queries.longest > 0) != (keys.longest > 0)) {
    fail(op, ": key_rows.longest is ", keys.longest,
         ", expected offsets of both sides on the host ",
         "or on the GPU, and query_rows.longest is ", queries.longest);
  }
}

// Hq is a multiple of Hk; both may be 0 only together.
inline bool heads_fit(int64_t query_heads, int64_t key_heads) {
  return key_heads == 0 ? query_heads == 0 : query_heads > 0 && query_heads % key_heads == 0;
}
inline void check_heads(const char* op, int64_t query_heads, int64_t key_heads) {
  if (!heads_fit(query_heads, key_heads)) {
    fail(op, ": queries.heads is ", query_heads, ", expected a ",
         query_heads == 0 ? "positive multiple" : "multiple", " of keys.heads = ", key_heads);
  }
}

// Queries [B, Hq, Nq, D], keys [B, Hk, Nk, D] and values [B, Hk, Nk, V] of one type, with scales of
// queries and keys, and their rows: members of every operator that compares queries with keys.
template <class Op>
void check_queries_keys_values(const Op& a, int64_t batch, int64_t query_heads, int64_t key_heads,
                               int64_t num_queries, int64_t num_keys, Offsets allowed) {
  constexpr const char* kName = Op::kName;
  check_heads(kName, query_heads, key_heads);
  check_width(kName, "queries", a.queries.cols);
  check_width(kName, "values", a.values.cols);
  check_floating(kName, "queries", a.queries, batch, query_heads, num_queries, a.queries.cols);
  check_floating(kName, "keys", a.keys, batch, key_heads, num_keys, a.queries.cols);
  check_floating(kName, "values", a.values, batch, key_heads, num_keys, a.values.cols);
  const char* type = name_of(a.queries.dtype);
  YOSO_CHECK(a.keys.dtype == a.queries.dtype, "keys", name_of(a.keys.dtype), type);
  YOSO_CHECK(a.values.dtype == a.queries.dtype, "values", name_of(a.values.dtype), type);
  check_scale(kName, "query_scale", a.query_scale, a.queries);
  check_scale(kName, "key_scale", a.key_scale, a.keys);
  check_sides(kName, a.query_rows, a.key_rows, batch, num_queries, num_keys, allowed);
}

// What goes into and comes out of the gradients of queries and keys.
template <class Op>
void check_grads(const Op& a) {
  const auto check_grad = [&](const char* name, const ConstArray& grad, const ConstArray& of,
                              int64_t cols) {
    check_floating_like(Op::kName, name, grad, a.queries, of.batch, of.heads, of.rows, cols);
  };
  check_grad("out_grad", a.out_grad, a.queries, a.values.cols);
  check_grad("query_grad", a.query_grad, a.queries, a.queries.cols);
  check_grad("key_grad", a.key_grad, a.keys, a.queries.cols);
}

}  // namespace yoso
