"""docs/transformers.md: its Python runs from top to bottom, its command and its benchmark run."""

# SPDX-License-Identifier: Apache-2.0
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="transformers is not installed")

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "transformers.md"
BENCHMARK = ROOT / "python" / "benchmarks" / "encoder.py"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_python_of_the_page_runs(capsys):
    names = {}
    for block in blocks("python"):
        exec(compile(block, PAGE, "exec"), names)
    said = capsys.readouterr().out
    assert "has no attribute 'fast_hash'" in said
    assert "torch.Size([2, 300, 100])" in said


def test_commands_of_the_page_run(tmp_path):
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    commands = [line.split()[1:] for line in lines if line.startswith("python -m yoso.")]
    assert commands
    for command in commands:
        subprocess.run([sys.executable, *command], check=True, cwd=tmp_path)
    assert (tmp_path / "yoso-kernel" / "build").is_dir()


@pytest.mark.parametrize(
    "options",
    ["--pass inference", "--pass train --autocast bfloat16 --backward-hashes 4 --mode sampled"],
)
def test_the_benchmark_runs(device, tmp_path, options):
    command = f"--tokens 32 --layers 1 --repeat 1 --threads 1 --device {device} {options}"
    result = subprocess.run(
        [sys.executable, BENCHMARK, *command.split(), "--out", tmp_path / "out"],
        check=True,
        capture_output=True,
        text=True,
    )
    (measured,) = json.loads((tmp_path / "out").read_text())
    assert measured["tokens"] == 32
    assert measured["times_faster"] == measured["sdpa_seconds"] / measured["yoso_seconds"]
    assert measured["none_times_faster"] == measured["sdpa_seconds"] / measured["none_seconds"]
    ratios = f"| {measured['times_faster']:.2f} | {measured['none_times_faster']:.2f} |"
    assert result.stdout.splitlines()[2].endswith(ratios)
