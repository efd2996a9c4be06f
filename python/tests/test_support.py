"""The table of docs/pytorch.md says what runs where: each of its cells is tried."""

# SPDX-License-Identifier: Apache-2.0
import pathlib

import pytest
import torch
import yoso

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "pytorch.md"
TABLE = DOCUMENT.read_text().split("<!-- support -->")[1].strip().splitlines()
COLUMNS, *ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in TABLE if "---" not in line
]
OPTIONS = {
    "sampled": dict(mode="sampled"),
    "expected": dict(mode="expected"),
    "surrogate gradient": dict(gradient="surrogate"),
    "true gradient": dict(gradient="true"),
    "padded": dict(layout="bnhd"),
    "ragged": dict(),
}


def runs(device, dtype, column):
    """Forward and backward, at the ends of the range of widths."""
    for width in (1, 256):
        shape = (9, 2, width) if column == "ragged" else (3, 9, 2, width)
        x = torch.randn(shape).to(device, dtype).requires_grad_()
        options = dict(OPTIONS[column])
        if column == "ragged":
            options["cu_seqlens"] = torch.tensor([0, 4, 9])
        else:
            options["mask"] = torch.rand(shape[0], x.shape[-2 if column != "padded" else 1]).to(
                device
            ) < 0.8
        try:
            out = yoso.attention(x, x, x, num_hashes=4, **options)
        except RuntimeError as error:
            assert "expected" in str(error), "a refusal that says what is expected"
            return False
        out.square().sum().backward()
        assert out.dtype == dtype
        assert x.grad.isfinite().all()
    return True


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_table_of_the_document(row, request):
    device = row[0]
    if device == "cuda":
        request.getfixturevalue("cuda")
    dtype = getattr(torch, row[1])
    found = ["yes" if runs(device, dtype, column) else "no" for column in COLUMNS[2:]]
    assert found == row[2:]


def test_table_is_complete():
    assert COLUMNS[2:] == list(OPTIONS)
    assert len(ROWS) == 8
