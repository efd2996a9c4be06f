"""What a call costs before there is work: attention of one token of width 1, in microseconds.

    python python/tests/time_a_call.py                 C++: build/release/layers/torch/attention_bench
    python python/tests/time_a_call.py ATTENTION_BENCH

C++ (yoso_attention) and Python (yoso.attention) take turns; the least of each, which was not
interrupted, stands beside that of the other. One thread.
"""

# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys
import timeit
from typing import Callable

import torch
import yoso

TURNS, CALLS, REPEATS = 20, 20, 200


def python_call(mode: str, with_gradient: bool) -> Callable[[], torch.Tensor]:
    row = torch.ones(1, 1, 1, 1, requires_grad=with_gradient)
    return lambda: yoso.attention(row, row, row, mode=mode, num_hashes=4, seed=3)


CASES = {
    mode + ("_with_gradient" if with_gradient else ""): python_call(mode, with_gradient)
    for with_gradient in (False, True)
    for mode in ("expected", "sampled")
}


def cpp_turn(program: str) -> dict[str, float]:
    arguments = f"--benchmark_format=json --benchmark_min_time=0.0005 --benchmark_repetitions={REPEATS}"
    result = subprocess.run(
        [program, *arguments.split()], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = {}
    for run in json.loads(result.stdout)["benchmarks"]:
        name = run["run_name"].split("/")[1]
        if run["run_type"] == "iteration":
            found[name] = min(run["real_time"] / 1000, found.get(name, float("inf")))
    return found


def python_turn() -> dict[str, float]:
    return {
        name: 1e6 * min(timeit.repeat(call, number=CALLS, repeat=REPEATS)) / CALLS
        for name, call in CASES.items()
    }


def main() -> None:
    program = sys.argv[1] if len(sys.argv) > 1 else "build/release/layers/torch/attention_bench"
    torch.set_num_threads(1)
    cpp, python = [], []
    for _ in range(TURNS):
        cpp.append(cpp_turn(program))
        python.append(python_turn())
    print("| call | C++, us | Python, us | Python over C++, us |\n|---|---|---|---|")
    for name in CASES:
        a, b = (min(turn[name] for turn in turns) for turns in (cpp, python))
        print(f"| {name.replace('_', ' ')} | {a:.1f} | {b:.1f} | {b - a:.1f} |")


if __name__ == "__main__":
    main()
