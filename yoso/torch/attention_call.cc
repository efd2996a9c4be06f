// SPDX-License-Identifier: Apache-2.0
#include "yoso/torch/attention_call.h"

#include <torch/csrc/stable/ops.h>

#include <cmath>

#include "yoso/core/check.h"
#include "yoso/ops/check_rows.h"
#include "yoso/torch/arguments.h"
#include "yoso/torch/crossover.h"

namespace yoso {
namespace {

constexpr const char* kName = AttentionCall::kName;

// "yoso_attention: key is 5, expected 6". Called where a check has failed, so that texts are made
// only then.
template <class Got, class... Expected>
[[noreturn]] void refuse(const char* argument, const Got& got, const Expected&... expected) {
  fail(kName, ": ", argument, " is ", got, ", expected ", expected...);
}

const char* type_text(const Tensor& x) { return torch::headeronly::toString(x.scalar_type()); }

bool is_floating(const Tensor& x) {
  const ScalarType type = x.scalar_type();
  return type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
         type == ScalarType::BFloat16;
}

// The first `count` extents of both are the same.
bool starts_alike(const Tensor& a, const Tensor& b, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (a.size(i) != b.size(i)) return false;
  }
  return true;
}

// Texts show rows in the caller's layout.
std::string shape_text(const AttentionCall& a, const Tensor& rows) {
  return yoso::shape_text(a.in_layout(rows));
}

void check_rows(const AttentionCall& a, const char* name, const Tensor& x, bool ragged) {
  const char* layout =
      a.heads_first ? "[batch, heads, tokens, width]" : "[batch, tokens, heads, width]";
  const char* ragged_layout =
      a.heads_first ? "[heads, total, width] with offsets" : "[total, heads, width] with offsets";
  if (x.dim() != (ragged ? 3 : 4)) {
    refuse(name, shape_text(a, x), ragged ? ragged_layout : layout);
  }
  if (!same_device(x, a.query)) {
    refuse(name, device_text(x), device_text(a.query), ", the device of query");
  }
  if (!is_floating(x)) refuse(name, type_text(x), "a floating type");
  if (x.scalar_type() != a.query.scalar_type()) {
    refuse(name, type_text(x), type_text(a.query), ", the type of query");
  }
  const int64_t width = x.size(x.dim() - 1);
  if (width < 1 || width > 256) refuse(name, shape_text(a, x), "a width from 1 to 256");
  if (!ragged && x.size(0) != a.query.size(0)) {
    refuse(name, shape_text(a, x), "the batch of query, ", a.query.size(0));
  }
}

void check_mask(const char* name, const OptionalTensor& mask, const Tensor& x) {
  if (!mask) return;
  if (!same_device(*mask, x)) refuse(name, device_text(*mask), device_text(x));
  if (mask->scalar_type() != ScalarType::Bool) refuse(name, type_text(*mask), "Bool");
  const int64_t rank = x.dim() - 2;
  if (mask->dim() != rank || !starts_alike(*mask, x, rank)) {
    refuse(name, yoso::shape_text(*mask), yoso::shape_text(x, rank));
  }
}

void check_offsets(const AttentionCall& a, const char* name, const OptionalTensor& offsets) {
  if (!offsets) {
    fail(kName, ": ", name, " is absent, expected offsets for both sides or for none");
  }
  if (!offsets->is_cpu() && !same_device(*offsets, a.query)) {
    refuse(name, device_text(*offsets), "cpu",
           a.query.is_cpu() ? "" : " or " + device_text(a.query));
  }
  if (offsets->is_cpu() != a.query_offsets->is_cpu()) {
    refuse(name, device_text(*offsets), device_text(*a.query_offsets), " as query_offsets");
  }
  if (!offsets->is_cpu() && !a.longest) {
    fail(kName, ": longest is absent, expected the rows of the longest sequence, or more, with ",
         "offsets on a GPU");
  }
  if (offsets->scalar_type() != ScalarType::Long) {
    refuse(name, type_text(*offsets), "Long (int64)");
  }
  if (offsets->dim() != 1 || offsets->size(0) < 1) {
    refuse(name, yoso::shape_text(*offsets), "[sequences + 1]");
  }
}

bool is_sampling_length(double code_bits) {
  return code_bits >= 1 && code_bits <= 16 && code_bits == std::floor(code_bits);
}

Mode parse_mode(std::string_view name) {
  if (const auto mode = named<Mode>(name)) return *mode;
  fail(kName, ": mode is '", name, "', expected 'auto', 'sampled' or 'expected'");
}

// Real tokens of each sequence, as far as they are known without looking at a ragged mask, or at a
// mask or offsets on a GPU: that would wait for it.
double real_tokens(const Tensor& x, const OptionalTensor& mask, int64_t sequence) {
  const int64_t tokens = x.size(1);
  if (!mask || !mask->is_cpu()) return static_cast<double>(tokens);
  const bool* row = mask->const_data_ptr<bool>() + sequence * mask->stride(0);
  int64_t count = 0;
  for (int64_t i = 0; i < tokens; ++i) count += row[i * mask->stride(1)];
  return static_cast<double>(count);
}

double ragged_tokens(const AttentionCall& a, const Tensor& offsets, int64_t sequence) {
  if (!offsets.is_cpu()) return static_cast<double>(*a.longest);
  const int64_t* begin = offsets.const_data_ptr<int64_t>() + sequence * offsets.stride(0);
  return static_cast<double>(begin[offsets.stride(0)] - begin[0]);
}

// The length of equal square sequences whose ratio of pairs to tokens is that of the inputs.
double equivalent_length(const AttentionCall& a) {
  const bool ragged = a.query_offsets.has_value();
  const int64_t sequences = ragged ? a.query_offsets->size(0) - 1 : a.query.size(0);
  double pairs = 0, tokens = 0;
  for (int64_t b = 0; b < sequences; ++b) {
    const double queries =
        ragged ? ragged_tokens(a, *a.query_offsets, b) : real_tokens(a.query, a.query_mask, b);
    const double keys =
        ragged ? ragged_tokens(a, *a.key_offsets, b) : real_tokens(a.key, a.key_mask, b);
    pairs += queries * keys;
    tokens += queries + keys;
  }
  return tokens > 0 ? 2 * pairs / tokens : 0;
}

// Tensors of another rank are left alone: check() refuses them.
Tensor swapped_heads(const Tensor& rows, bool swap) {
  const int64_t rank = rows.dim();
  return swap && rank >= 3 ? torch::stable::transpose(rows, rank - 3, rank - 2) : rows;
}

}  // namespace

AttentionCall::AttentionCall(const Tensor& query, const Tensor& key, const Tensor& value,
                             const OptionalTensor& query_mask, const OptionalTensor& key_mask,
                             const OptionalTensor& query_offsets, const OptionalTensor& key_offsets,
                             const OptionalTensor& seed, int64_t num_hashes, double code_bits,
                             std::string_view mode, std::string_view gradient,
                             std::optional<int64_t> backward_hashes, bool heads_first,
                             std::optional<int64_t> longest)
    : query(swapped_heads(query, heads_first)),
      key(swapped_heads(key, heads_first)),
      value(swapped_heads(value, heads_first)),
      query_mask(query_mask),
      key_mask(key_mask),
      query_offsets(query_offsets),
      key_offsets(key_offsets),
      seed(seed),
      options{.mode = parse_mode(mode),
              .gradient = parse_gradient(kName, gradient),
              .num_hashes = num_hashes,
              .code_bits = code_bits,
              .backward_hashes = backward_hashes},
      heads_first(heads_first),
      longest(longest) {}

void AttentionCall::check() const {
  const bool ragged = query_offsets || key_offsets;
  if (ragged) {
    check_offsets(*this, "query_offsets", query_offsets);
    check_offsets(*this, "key_offsets", key_offsets);
    if (key_offsets->size(0) != query_offsets->size(0)) {
      refuse("key_offsets", yoso::shape_text(*key_offsets), yoso::shape_text(*query_offsets),
             " as query_offsets");
    }
  }
  check_rows(*this, "query", query, ragged);
  check_rows(*this, "key", key, ragged);
  check_rows(*this, "value", value, ragged);
  const int64_t rank = query.dim();
  if (key.size(rank - 1) != query.size(rank - 1)) {
    refuse("key", shape_text(*this, key), "the width of query, ", query.size(rank - 1));
  }
  const int64_t query_heads = query.size(rank - 2), key_heads = key.size(rank - 2);
  if (!heads_fit(query_heads, key_heads)) {
    refuse("query", shape_text(*this, query), "heads that are a ",
           query_heads == 0 ? "positive multiple" : "multiple", " of the ", key_heads,
           " heads of key");
  }
  if (!starts_alike(value, key, rank - 1)) {
    refuse("value", shape_text(*this, value), "the batch, tokens and heads of key, ",
           shape_text(*this, key));
  }
  check_mask("query_mask", query_mask, query);
  check_mask("key_mask", key_mask, key);

  if (!(options.code_bits > 0)) refuse("code_bits", options.code_bits, "more than 0");
  if (options.num_hashes < 1) refuse("num_hashes", options.num_hashes, "at least 1");
  if (options.mode == Mode::kSampled && !is_sampling_length(options.code_bits)) {
    refuse("code_bits", options.code_bits, "an integer from 1 to 16 when sampled");
  }
  if (longest && *longest < 0) refuse("longest", *longest, "at least 0");
  if (const auto& hashes = options.backward_hashes) {
    if (*hashes < 1 || options.num_hashes % *hashes != 0) {
      refuse("backward_hashes", *hashes, "a divisor of num_hashes = ", options.num_hashes);
    }
    if (options.gradient != Gradient::kSurrogate) {
      refuse("gradient", "'true'",
             "'surrogate' with backward_hashes: a subset of hashes finds fewer colliding pairs");
    }
  }
  if (!may_sample()) return;
  if (!seed) fail(kName, ": seed is absent, expected one when hashes may be drawn");
  if (!seed->is_cpu() && !same_device(*seed, query)) {
    refuse("seed", device_text(*seed), "cpu", query.is_cpu() ? "" : " or " + device_text(query));
  }
  if (seed->scalar_type() != ScalarType::Long) refuse("seed", type_text(*seed), "Long (int64)");
  if (seed->numel() != 1) refuse("seed", yoso::shape_text(*seed), "one number");
}

bool AttentionCall::may_sample() const {
  return options.mode != Mode::kExpected && is_sampling_length(options.code_bits);
}

Mode AttentionCall::mode() const {
  if (!may_sample()) return Mode::kExpected;
  if (options.mode != Mode::kAuto) return options.mode;
  const Device device = query.is_cuda() ? Device::kCuda : Device::kCpu;
  return faster_mode(device, equivalent_length(*this), options.num_hashes);
}

Tensor AttentionCall::in_layout(const Tensor& rows) const {
  return swapped_heads(rows, heads_first);
}

Seed AttentionCall::seed_value() const {
  const int64_t* at = seed->const_data_ptr<int64_t>();
  return seed->is_cpu() ? Seed{.number = static_cast<uint64_t>(*at)} : Seed{.on_gpu = at};
}

// Float for 16 bits, since half may overflow before it is normalised. bfloat16 has float's range,
// and on a GPU half the bytes are half the time.
ScalarType AttentionCall::intermediate_type() const {
  const bool narrow = value.is_cuda() && value.scalar_type() == ScalarType::BFloat16;
  return narrow ? ScalarType::BFloat16 : accumulation_type(value);
}

}  // namespace yoso
