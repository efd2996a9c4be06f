// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/hash.h"

#include <algorithm>
#include <vector>

#include "yoso/core/check.h"
#include "yoso/torch/arguments.h"
#include "yoso/torch/operators.h"
#include "yoso/torch/runner.h"

namespace yoso {

Tensor hash(const Tensor& x, int64_t num_hashes, int64_t code_bits, int64_t seed,
            std::string_view projection, std::optional<int64_t> projection_heads) {
  return hash_by(x, num_hashes, code_bits, {.number = static_cast<uint64_t>(seed)}, projection,
                 projection_heads);
}

Tensor hash_by(const Tensor& x, int64_t num_hashes, int64_t code_bits, const Seed& seed,
               std::string_view projection, std::optional<int64_t> projection_heads) {
  Arguments args(Hash::kName);
  Hash a;
  a.x = args.input("x", x, Layout::kTokens);
  a.code_bits = code_bits;
  a.projection = parse_projection(Hash::kName, projection);
  a.projection_heads = projection_heads.value_or(std::max<int64_t>(a.x.heads, 1));
  // What the numbers below are drawn from; the rest is checked by the operator.
  if (num_hashes < 1) fail("hash: num_hashes is ", num_hashes, ", expected at least 1");
  if (code_bits < 1 || code_bits > 16) {
    fail("hash: code_bits is ", code_bits, ", expected 1 to 16");
  }
  if (a.projection_heads < 1 || a.x.heads % a.projection_heads != 0) {
    fail("hash: projection_heads is ", a.projection_heads, ", expected a divisor of the ",
         a.x.heads, " heads of x");
  }
  Tensor codes = empty_codes(x, a.x.batch, a.x.heads, num_hashes, a.x.rows, code_type(code_bits));
  a.codes = args.output("codes", codes, Layout::kCodes);
#ifdef YOSO_CUDA
  if (x.is_cuda()) {
    GpuRun gpu(x);
    a.projections = cuda::draw_projections(a.shape(), a.projection_heads, seed, gpu.stream());
    cuda::hash(a, gpu.stream());
    return codes;
  }
#endif
  const std::vector<float> drawn = draw_projections(a.shape(), a.projection_heads, seed.number);
  a.projections = drawn.data();
  cpu::hash(a);
  return codes;
}

}  // namespace yoso
