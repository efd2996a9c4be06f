// SPDX-License-Identifier: Apache-2.0
#include "yoso/ops/hash.h"

void yoso::cpu::hash(const Hash& a) { reference::hash(a); }
