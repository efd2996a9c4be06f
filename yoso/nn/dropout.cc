// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/dropout.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <mutex>

#include "yoso/core/dropout.h"
#include "yoso/core/random.h"

namespace yoso::nn {
namespace {

constexpr int64_t kPerBlock = DropoutRate::kPerBlock;
constexpr int64_t kGrain = 1 << 12;  // blocks of a thread's share: worth more than its start

struct Mask {
  uint64_t seed;
  DropoutRate rate;

  at::Tensor apply(const at::Tensor& x) const {
    const at::Tensor in = x.contiguous();
    at::Tensor out = at::empty_like(in);
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, in.scalar_type(), "dropout", [&] {
      fill(in.const_data_ptr<scalar_t>(), out.mutable_data_ptr<scalar_t>(), in.numel());
    });
    return out;
  }

  template <class T>
  void fill(const T* x, T* y, int64_t size) const {
    using Wide =
        at::opmath_type<T>;  // float for 16-bit types: the scale must not be rounded to them
    const Wide scale = rate.scale<Wide>();
    const int64_t blocks = (size + kPerBlock - 1) / kPerBlock;
    at::parallel_for(0, blocks, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        const auto bits = random_block(seed, 0, static_cast<uint64_t>(block));
        const int64_t first = block * kPerBlock, count = std::min(kPerBlock, size - first);
        for (int64_t i = 0; i < count; ++i) {
          y[first + i] =
              rate.drops(bits, i) ? T(0) : static_cast<T>(static_cast<Wide>(x[first + i]) * scale);
        }
      }
    });
  }
};

class DropoutFunction : public torch::autograd::Function<DropoutFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const Mask& mask) {
    ctx->saved_data["seed"] = static_cast<int64_t>(mask.seed);
    ctx->saved_data["dropped"] = mask.rate.dropped;
    return mask.apply(x);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    const Mask mask{static_cast<uint64_t>(ctx->saved_data["seed"].toInt()),
                    {ctx->saved_data["dropped"].toInt()}};
    return {mask.apply(grads[0]), {}};
  }
};

uint64_t draw_seed() {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard lock(generator.mutex());
  return generator.get<at::CPUGeneratorImpl>()->random64();
}

}  // namespace

at::Tensor DropoutImpl::forward(const at::Tensor& x) {
  if (!x.is_cpu()) return at::dropout(x, p_, is_training());
  const DropoutRate now = DropoutRate::of(rate());
  if (now.dropped == 0) return x;
  return DropoutFunction::apply(x, Mask{draw_seed(), now});
}

}  // namespace yoso::nn
