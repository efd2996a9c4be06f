"""docs/tutorial.md runs from top to bottom, and what it says comes out."""

# SPDX-License-Identifier: Apache-2.0
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"


def test_the_tutorial_runs(capsys):
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(block, PAGE, "exec"), names)
    said = capsys.readouterr().out
    assert "torch.Size([2, 4, 100, 32])" in said
    assert "is_causal is True, expected False" in said
    # 64 times the hashes, an eighth of the error. Each is a root mean of 25,600 squares, so their
    # ratio hardly depends on the seed: standard deviation 0.11 over twenty, six of them granted.
    errors = names["errors"]
    assert abs(errors[16] / errors[1024] - 8) < 0.66
    # 4,096 answers, of which 1 in 8 is right by chance with a standard error of 0.005.
    assert names["before"] < 0.2
    assert names["after"] > 0.9
    assert names["accuracy"](names["cheaper"]) > 0.9
