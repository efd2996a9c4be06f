"""docs/transformers.md: its Python runs from top to bottom, and so does its command."""

# SPDX-License-Identifier: Apache-2.0
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="transformers is not installed")

PAGE = Path(__file__).parents[2] / "docs" / "transformers.md"


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
