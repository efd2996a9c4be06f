// SPDX-License-Identifier: Apache-2.0
#include "yoso/nn/none_attention.h"

namespace yoso::nn {

at::Tensor NoneAttention::forward(const at::Tensor&, const at::Tensor&, const at::Tensor& value,
                                  const at::Tensor&) {
  return value;
}

at::Tensor NoneAttention::attend_packed(const at::Tensor&, const at::Tensor&,
                                        const at::Tensor& value, const RealTokens&) {
  return value;
}

}  // namespace yoso::nn
