// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/bucket_attention_grad.h"

void yoso::cpu::bucket_attention_grad(const BucketAttentionGrad& a) {
  reference::bucket_attention_grad(a);
}
