"""What a call costs before there is work: yoso.attention of one token of width 1, in microseconds.

Beside it stands what C++ takes: build/release/layers/torch/attention_bench.
"""

# SPDX-License-Identifier: Apache-2.0
import timeit

import torch
import yoso

torch.set_num_threads(1)
CALLS, REPEATS = 200, 300  # short, so that the least of them was not interrupted
for with_gradient in (False, True):
    row = torch.ones(1, 1, 1, 1, requires_grad=with_gradient)
    for mode in ("expected", "sampled"):

        def call() -> torch.Tensor:
            return yoso.attention(row, row, row, mode=mode, num_hashes=4, seed=3)

        timeit.timeit(call, number=CALLS)
        least = min(timeit.repeat(call, number=CALLS, repeat=REPEATS)) / CALLS
        name = mode + ("_with_gradient" if with_gradient else "")
        print(f"{name}: {1e6 * least:.1f}")
