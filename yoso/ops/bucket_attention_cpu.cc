// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/bucket_attention.h"

void yoso::cpu::bucket_attention(const BucketAttention& a) { reference::bucket_attention(a); }
