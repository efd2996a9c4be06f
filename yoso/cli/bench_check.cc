// SPDX-License-Identifier: Apache-2.0
#include "yoso/cli/bench_check.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

#include "yoso/core/check.h"
#include "yoso/ops/bucket_attention.h"
#include "yoso/ops/bucket_attention_grad.h"
#include "yoso/ops/expected_attention.h"
#include "yoso/ops/expected_attention_grad.h"
#include "yoso/ops/hash.h"
#include "yoso/ops/unit_rows.h"

namespace yoso {
namespace {

constexpr int64_t kBatch = 2, kQueryHeads = 4, kKeyHeads = 2, kQueries = 19, kKeys = 37;

// View of [B, N, H, D] as the operators' [B, H, N, D].
Array rows_of(const at::Tensor& x) {
  return {x.data_ptr<double>(), DType::kFloat64, x.size(0),  x.size(2), x.size(1), x.size(3),
          x.stride(0),          x.stride(2),     x.stride(1)};
}

// [B, H, 1, N]
Array scales_of(const at::Tensor& x) {
  return dense(x.data_ptr<double>(), x.size(0), x.size(1), 1, x.size(2));
}

struct Gradients {
  at::Tensor out, query, key, value;
};

struct Problem {
  at::Tensor query, key, value, out_grad;  // double, small integers
  at::Tensor query_mask, key_mask;

  Rows query_rows() const { return {.mask = query_mask.data_ptr<bool>(), .mask_stride = kQueries}; }
  Rows key_rows() const { return {.mask = key_mask.data_ptr<bool>(), .mask_stride = kKeys}; }
};

// Integers are exact in every type, and so are their Hadamard transforms: codes agree to the bit.
// Queries and keys lean towards one direction, so that there are collisions.
Problem make_problem(int64_t width) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(uint64_t{1});
  const auto integers = [&](int64_t low, int64_t high, at::IntArrayRef shape) {
    return at::randint(low, high + 1, shape, generator, at::kDouble);
  };
  const at::Tensor direction = integers(-6, 6, {width});
  Problem p;
  p.query = integers(-3, 3, {kBatch, kQueries, kQueryHeads, width}) + direction;
  p.key = integers(-3, 3, {kBatch, kKeys, kKeyHeads, width}) + direction;
  p.value = integers(-4, 4, {kBatch, kKeys, kKeyHeads, width});
  p.out_grad = integers(-4, 4, {kBatch, kQueries, kQueryHeads, width});
  p.query_mask = at::ones({kBatch, kQueries}, at::kBool);
  p.key_mask = at::ones({kBatch, kKeys}, at::kBool);
  p.query_mask[1].slice(0, kQueries - 3).fill_(false);
  p.key_mask[1].slice(0, kKeys - 5).fill_(false);
  p.key_mask[0][2].fill_(false);
  return p;
}

at::Tensor codes_of(const at::Tensor& x, const YosoOptions& options, int64_t code_bits) {
  Hash hash;
  hash.x = rows_of(x);
  hash.code_bits = code_bits;
  hash.projection_heads = kKeyHeads;
  at::Tensor codes = at::empty({x.size(0), x.size(2), options.num_hashes, x.size(1)},
                               code_bits <= 8 ? at::kByte : at::kUInt16);
  hash.codes = {codes.data_ptr(), code_dtype(code_bits), codes.size(0),
                codes.size(1),    codes.size(2),         codes.size(3),
                codes.stride(0),  codes.stride(1),       codes.stride(2)};
  const std::vector<float> projections =
      draw_projections(hash.shape(), kKeyHeads, static_cast<uint64_t>(*options.seed));
  hash.projections = projections.data();
  reference::hash(hash);
  return codes;
}

ConstArray codes_view(const at::Tensor& codes) {
  return Array{codes.data_ptr(), codes.scalar_type() == at::kByte ? DType::kUint8 : DType::kUint16,
               codes.size(0),    codes.size(1),
               codes.size(2),    codes.size(3),
               codes.stride(0),  codes.stride(1),
               codes.stride(2)};
}

at::Tensor unit_scales(const at::Tensor& x) {
  at::Tensor scale = at::empty({x.size(0), x.size(2), x.size(1)}, at::kDouble);
  UnitRows unit;
  unit.x = rows_of(x);
  unit.scale = scales_of(scale);
  reference::unit_rows(unit);
  return scale;
}

void to_raw_gradient(const at::Tensor& x, const at::Tensor& scale, at::Tensor& grad) {
  UnitRowsGrad unit;
  unit.x = rows_of(x);
  unit.x_scale = unit.scale = scales_of(scale);
  unit.y_grad = unit.x_grad = rows_of(grad);
  reference::unit_rows_grad(unit);
}

// Attention with normalised output, composed of the references.
Gradients expected_result(const Problem& p, const YosoOptions& options) {
  const at::Tensor query_scale = unit_scales(p.query), key_scale = unit_scales(p.key);
  const bool sampled = options.mode == Mode::kSampled;
  const int64_t code_bits = static_cast<int64_t>(options.code_bits);
  const at::Tensor query_codes = sampled ? codes_of(p.query, options, code_bits) : at::Tensor();
  const at::Tensor key_codes = sampled ? codes_of(p.key, options, code_bits) : at::Tensor();
  Gradients result{at::empty_like(p.out_grad), at::empty_like(p.query), at::empty_like(p.key),
                   at::empty_like(p.value)};
  if (sampled) {
    reference::bucket_attention({codes_view(query_codes), codes_view(key_codes), rows_of(p.value),
                                 rows_of(result.out), code_bits, p.query_rows(), p.key_rows()});
  } else {
    ExpectedAttention a{rows_of(p.query),     rows_of(p.key),   scales_of(query_scale),
                        scales_of(key_scale), rows_of(p.value), rows_of(result.out),
                        options.code_bits,    p.query_rows(),   p.key_rows()};
    reference::expected_attention(a);
  }
  const at::Tensor out_scale = unit_scales(result.out);
  at::Tensor sum_grad = p.out_grad.clone();
  to_raw_gradient(result.out, out_scale, sum_grad);
  result.out *= out_scale.transpose(1, 2).unsqueeze(-1);

  if (sampled) {
    BucketAttentionGrad a;
    a.query_codes = codes_view(query_codes), a.key_codes = codes_view(key_codes);
    a.queries = rows_of(p.query), a.keys = rows_of(p.key);
    a.query_scale = scales_of(query_scale), a.key_scale = scales_of(key_scale);
    a.values = rows_of(p.value), a.out_grad = rows_of(sum_grad);
    a.query_grad = rows_of(result.query), a.key_grad = rows_of(result.key);
    a.code_bits = code_bits;
    a.query_rows = p.query_rows(), a.key_rows = p.key_rows();
    reference::bucket_attention_grad(a);
    reference::bucket_attention({codes_view(key_codes), codes_view(query_codes), rows_of(sum_grad),
                                 rows_of(result.value), code_bits, p.key_rows(), p.query_rows()});
  } else {
    ExpectedAttentionGrad a;
    a.queries = rows_of(p.query), a.keys = rows_of(p.key);
    a.query_scale = scales_of(query_scale), a.key_scale = scales_of(key_scale);
    a.values = rows_of(p.value), a.out_grad = rows_of(sum_grad);
    a.query_grad = rows_of(result.query), a.key_grad = rows_of(result.key);
    a.value_grad = rows_of(result.value);
    a.code_bits = options.code_bits;
    a.query_rows = p.query_rows(), a.key_rows = p.key_rows();
    reference::expected_attention_grad(a);
  }
  to_raw_gradient(p.query, query_scale, result.query);
  to_raw_gradient(p.key, key_scale, result.key);
  return result;
}

Gradients result_of(const Problem& p, const YosoOptions& options, at::Device device,
                    at::ScalarType type, const AttentionFunction& attention) {
  const auto leaf = [&](const at::Tensor& x) {
    return x.to(device, type).detach().requires_grad_();
  };
  YosoInputs in{leaf(p.query), leaf(p.key), leaf(p.value)};
  in.query_mask = p.query_mask.to(device), in.key_mask = p.key_mask.to(device);
  const at::Tensor out = attention(in, options);
  const auto grads =
      torch::autograd::grad({out}, {in.query, in.key, in.value}, {p.out_grad.to(device, type)});
  return {out.detach().cpu(), grads[0].cpu(), grads[1].cpu(), grads[2].cpu()};
}

// Every output is a chain of at most three sums of `additions` terms in float, each of which may
// lose additions * eps of the sum of magnitudes; cancellation within the sums and in the
// normalisation's gradient amplifies by some units (16 granted). A 16-bit type also rounds outputs
// and the normalised rows that the backward starts from. Faults of logic are of order 1 / rows.
double tolerance(const BenchCase& c, at::ScalarType type, Mode mode) {
  const double eps = 0x1p-24, type_eps = type == at::kBFloat16 ? 0x1p-8
                                         : type == at::kHalf   ? 0x1p-11
                                                               : 0;
  const int64_t terms = mode == Mode::kSampled ? kKeys * c.hashes : kKeys + c.bits * c.width;
  return 16 * (static_cast<double>(terms + 2 * c.width) * eps + type_eps / 4);
}

void compare(const BenchCase& c, const YosoOptions& options, const AttentionFunction& attention) {
  const at::ScalarType type = c.dtype == "bfloat16"  ? at::kBFloat16
                              : c.dtype == "float16" ? at::kHalf
                                                     : at::kFloat;
  const Problem problem = make_problem(c.width);
  const Gradients expected = expected_result(problem, options);
  const Gradients got = result_of(problem, options, c.device, type, attention);
  const double limit = tolerance(c, type, options.mode);
  const auto check = [&](const char* name, const at::Tensor& a, const at::Tensor& b) {
    const double error = ((a.to(at::kDouble) - b).norm() / b.norm()).item<double>();
    if (!(error <= limit))
      fail("bench: ", name, " of ", name_of(options.mode), " attention in ", c.dtype,
           " differs from the reference by ", error, " (relative), expected at most ", limit,
           "; not timed");
  };
  check("the output", got.out, expected.out);
  check("the gradient of query", got.query, expected.query);
  check("the gradient of key", got.key, expected.key);
  check("the gradient of value", got.value, expected.value);
}

}  // namespace

void check_attention(const BenchCase& c, const AttentionFunction& attention) {
  if (!c.is_yoso()) return;
  for (const Mode mode : {Mode::kSampled, Mode::kExpected}) {
    YosoOptions options = yoso_options(c);
    if (options.mode != Mode::kAuto && options.mode != mode) continue;
    options.mode = mode;
    compare(c, options, attention);
  }
}

}  // namespace yoso
