"""The library in a process: a second copy of it, and no library at all."""

# SPDX-License-Identifier: Apache-2.0
import os
import shutil
import subprocess
import sys

from yoso import _operators


def run(program, **environment):
    """Another Python, with what this one sees."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                   **environment}  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )


def test_a_second_copy_leaves_the_operators_to_the_first(tmp_path):
    """As a C++ library of another build in the process of the package."""
    copies = [tmp_path / "libyoso_torch.so", tmp_path / "other_name.so"]
    for copy in copies:
        shutil.copy(_operators.LIBRARY, copy)
    program = f"""
import torch, yoso
x = torch.randn(1, 2, 40, 8, requires_grad=True)
before = yoso.attention(x, x, x, seed=1, mode="sampled")
for copy in {[str(copy) for copy in copies]!r}:
    torch.ops.load_library(copy)
paths = {{line.split(maxsplit=5)[-1].strip() for line in open("/proc/self/maps")}}
loaded = {{path for path in paths if path.endswith(("/libyoso_torch.so", "/other_name.so"))}}
assert len(loaded) == 3, loaded
after = yoso.attention(x, x, x, seed=1, mode="sampled")
assert torch.equal(before, after)
after.sum().backward()
print("both")
"""
    result = run(program)
    assert result.stdout == "both\n", result.stderr
    assert "Warning" not in result.stderr


def test_a_library_that_is_not_there_is_named():
    result = run("import yoso", YOSO_LIBRARY="/nowhere/libyoso_torch.so")
    assert result.returncode == 1
    assert "ImportError: yoso: /nowhere/libyoso_torch.so is not there, expected" in result.stderr
