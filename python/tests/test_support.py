"""The table of docs/pytorch.md says what runs where: every combination of a row's cells is run.

    python python/tests/test_support.py

prints it; rows of a GPU, where there is none, as they stand there.
"""

# SPDX-License-Identifier: Apache-2.0
import itertools
import pathlib

import pytest
import torch
import yoso
from conftest import gpu_code

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "pytorch.md"
# What is tried: rows, and the candidates of every other column.
ROWS = [
    (device, dtype)
    for device in ("cpu", "cuda")
    for dtype in ("float32", "float64", "bfloat16", "float16")
]
TRIED = {
    "width": [0, 1, 3, 64, 256, 257],
    "mode": ["sampled", "expected", "auto"],
    "gradient": ["surrogate", "true"],
    "mask": ["none", "mask", "query_mask", "key_mask", "cu_seqlens", "cu_seqlens with mask", "pairs"],
    "layout": ["bhnd", "bnhd"],
}
BATCH, HEADS, TOKENS = 3, 2, 9
NOTHING = "none of them"


def runs(device, dtype, width, mode, gradient, mask, layout):
    """Forward and backward; or a refusal that says what is expected."""
    sizes = (BATCH, HEADS, TOKENS) if layout == "bhnd" else (BATCH, TOKENS, HEADS)
    options = dict(mode=mode, gradient=gradient, layout=layout, num_hashes=4)
    real = torch.rand(BATCH, TOKENS).to(device) < 0.8
    if "cu_seqlens" in mask:
        sizes = BATCH * TOKENS, HEADS
        options["cu_seqlens"] = torch.tensor([0, 4, 4, BATCH * TOKENS])
        real = real.flatten()
    if "mask" in mask:
        options[mask.split()[-1]] = real
    if mask == "pairs":
        options["mask"] = real.new_ones(BATCH, 1, TOKENS, TOKENS).tril()
    x = torch.randn(*sizes, width).to(device, getattr(torch, dtype)).requires_grad_()
    try:
        out = yoso.attention(x, x, x, **options)
    except RuntimeError as error:
        assert "expected" in str(error)
        return False
    out.square().sum().backward()
    assert out.dtype == x.dtype and out.isfinite().all()
    assert x.grad.isfinite().all()
    return True


def cells(device, dtype):
    """What runs of each column, in words."""
    found = {
        combination
        for combination in itertools.product(*TRIED.values())
        if runs(device, dtype, *combination)
    }
    values = [
        [x for x in candidates if any(combination[i] == x for combination in found)]
        for i, candidates in enumerate(TRIED.values())
    ]
    assert found == set(itertools.product(*values)), "a row has no holes"
    widths, *others = values
    names = [", ".join(x) if x else NOTHING for x in others]
    return [device, dtype, f"{widths[0]} to {widths[-1]}" if widths else NOTHING, *names]


def table():
    """Its lines in the document, as lists of cells."""
    lines = DOCUMENT.read_text().split("<!-- support -->")[1].strip().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("device, dtype", ROWS)
def test_table_of_the_document(device, dtype, request):
    if device == "cuda":
        request.getfixturevalue("cuda")
    assert cells(device, dtype) in table()


def test_table_is_complete():
    heading, _, *lines = table()
    assert heading == ["device", "type", *TRIED]
    assert [tuple(line[:2]) for line in lines] == ROWS


def main():
    heading, rule, *lines = table()
    on_gpu = torch.cuda.is_available() and gpu_code()
    lines = [cells(*line[:2]) if line[0] == "cpu" or on_gpu else line for line in lines]
    for line in [heading, rule, *lines]:
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
