"""The three functions of the hub kernel, and the folder that the kernels package loads."""

# SPDX-License-Identifier: Apache-2.0
import json
import os
import subprocess
import sys

import pytest
import torch
from yoso.integrations.hub import write_hub_kernel
from yoso.integrations.hub_kernel import fast_hash, lsh_cumulation, lsh_weighted_cumulation

GROUPS, QUERIES, KEYS, HASHES, WIDTH = 6, 13, 9, 4, 5


def whole_numbers(*shape):
    """Small ones: sums of their products are exact in float32."""
    return torch.randint(-4, 5, shape).float()


def masks():
    """int32 of both sides, as transformers hands them over."""
    return [(torch.rand(GROUPS, n) < 0.7).int() for n in (QUERIES, KEYS)]


def codes(bits):
    """int32 [G, N, M] of both sides, few of them so that they meet."""
    values = torch.randint(0, 4, (GROUPS, QUERIES + KEYS, HASHES)) * (2**bits // 4)
    return values.int().split([QUERIES, KEYS], 1)


def shares(query_mask, query_codes, key_mask, key_codes):
    """[G, Nq, Nk]: in which part of the hashes real rows meet."""
    meet = (query_codes[:, :, None] == key_codes[:, None]).float().mean(-1)
    return meet * query_mask[:, :, None] * key_mask[:, None]


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_lsh_cumulation_sums_values_of_keys_that_share_codes(bits, device):
    (query_mask, key_mask), (query_codes, key_codes) = masks(), codes(bits)
    value = whole_numbers(GROUPS, KEYS, WIDTH)
    wanted = shares(query_mask, query_codes, key_mask, key_codes) @ value
    arguments = [x.to(device) for x in (query_mask, query_codes, key_mask, key_codes, value)]
    out = lsh_cumulation(*arguments, 2**bits, device == "cuda", 1)
    assert torch.equal(out.cpu(), wanted)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [4, 8])  # factors that are powers of two: exact
def test_lsh_weighted_cumulation_weighs_them(bits, version, device):
    (query_mask, key_mask), (query_codes, key_codes) = masks(), codes(bits)
    query_weight, key_weight = whole_numbers(GROUPS, QUERIES, 3), whole_numbers(GROUPS, KEYS, 3)
    value = whole_numbers(GROUPS, KEYS, WIDTH)
    weights = shares(query_mask, query_codes, key_mask, key_codes) * (query_weight @ key_weight.mT)
    query_side = [x.to(device) for x in (query_mask, query_codes, query_weight)]
    key_side = [x.to(device) for x in (key_mask, key_codes, key_weight, value)]
    out = lsh_weighted_cumulation(*query_side, *key_side, 2**bits, device == "cuda", version)
    assert torch.equal(out.cpu(), weights @ value)


def test_fast_hash_gives_alike_rows_alike_codes(device):
    query_mask, _ = masks()
    query_mask = query_mask.to(device)
    rows = torch.randn(GROUPS, QUERIES, 24).to(device)

    def hashed(seed):
        torch.manual_seed(seed)
        everyone = torch.ones_like(query_mask)
        return fast_hash(query_mask, rows, everyone, 4 * rows, 40, 9, device == "cuda", 1)

    query_codes, key_codes = hashed(1)
    assert query_codes.shape == (GROUPS, QUERIES, 40) and query_codes.dtype == torch.int32
    real = query_mask == 1
    assert torch.equal(query_codes[real], key_codes[real])
    assert (query_codes[~real] == 0).all()
    assert 0 <= key_codes.min() and key_codes.max() < 2**9
    # 3,120 codes: all 9 bits are in use.
    assert key_codes.unique().numel() > 400
    again, other = hashed(1), hashed(2)
    assert torch.equal(again[1], key_codes) and not torch.equal(other[1], key_codes)


def test_groups_have_hashes_of_their_own():
    one = torch.ones(2, 1, dtype=torch.int32)
    rows = torch.randn(1, 1, 24).expand(2, 1, 24)
    query_codes, _ = fast_hash(one, rows, one, rows, 32, 8, False, 1)
    assert not torch.equal(query_codes[0], query_codes[1])


@pytest.mark.parametrize(
    "capacity, use_cuda, version, message",
    [
        (500, False, 1, "hashtable_capacity is 500, expected a power of two from 2 to 65536"),
        (2**17, False, 1, "hashtable_capacity is 131072, expected"),
        (512, True, 1, "use_cuda is True with query_mask on cpu, expected False"),
        (512, False, 2, r"version is 2, expected one of \(1,\)"),
    ],
)
def test_refuses(capacity, use_cuda, version, message):
    (query_mask, key_mask), (query_codes, key_codes) = masks(), codes(8)
    value = whole_numbers(GROUPS, KEYS, WIDTH)
    with pytest.raises(ValueError, match=message):
        lsh_cumulation(
            query_mask, query_codes, key_mask, key_codes, value, capacity, use_cuda, version
        )


def test_refuses_what_is_no_tensor_of_codes():
    (query_mask, key_mask), (query_codes, key_codes) = masks(), codes(8)
    sides = dict(query_mask=query_mask, query_hash_code=query_codes, key_mask=key_mask)
    sides.update(key_hash_code=key_codes, value=whole_numbers(GROUPS, KEYS, WIDTH))
    for wrong, message in (
        (dict(key_mask=[1]), "lsh_cumulation: key_mask is a list, expected a tensor"),
        (dict(value=None), "lsh_cumulation: value is a NoneType, expected a tensor"),
        (dict(query_hash_code=query_codes.float()),
         "lsh_cumulation: query_hash_code is torch.float32, expected torch.int32"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=message):
            lsh_cumulation(**(sides | wrong), hashtable_capacity=256, use_cuda=False, version=1)


def test_codes_beyond_the_capacity_stay_inside_the_tables():
    (query_mask, key_mask), (query_codes, key_codes) = masks(), codes(8)
    value = whole_numbers(GROUPS, KEYS, WIDTH)
    inside = lsh_cumulation(query_mask, query_codes, key_mask, key_codes, value, 256, False, 1)
    beyond = lsh_cumulation(
        query_mask, query_codes + 256, key_mask, key_codes - 512, value, 256, False, 1
    )
    assert torch.equal(inside, beyond)


def test_writes_the_layout_of_the_hub(tmp_path):
    variants = write_hub_kernel(tmp_path)
    assert variants[0].parent == tmp_path / "build"
    assert variants[0].name.startswith("torch-stable-abi211-cpu-")
    for variant in variants:
        names = {path.name for path in variant.iterdir()}
        assert names == {"__init__.py", "_ops.py", "libyoso_torch.so", "metadata.json"}
        metadata = json.loads((variant / "metadata.json").read_text())
        assert metadata["name"] == "yoso" and metadata["license"] == "Apache-2.0"


# Run with transformers as it is; the folder must do without the package and its library.
USE_THE_FOLDER = """
import sys
import torch
from transformers import YosoConfig, YosoForMaskedLM
from transformers.models.yoso import modeling_yoso

modeling_yoso.load_cuda_kernels()
model = YosoForMaskedLM(
    YosoConfig(
        vocab_size=50, hidden_size=32, num_attention_heads=2, num_hidden_layers=2,
        intermediate_size=48, max_position_embeddings=64, use_expectation=False,
    )
)
ids = torch.randint(4, 50, (2, 40))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
losses = []
for _ in range(8):
    loss = model(ids, labels=ids).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0], losses
assert "yoso" not in sys.modules
"""


def test_transformers_loads_the_folder_and_trains_with_it(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("kernels", reason="kernels is not installed")
    from transformers.utils import is_kernels_available

    if not is_kernels_available():
        pytest.skip("this transformers takes no kernels of the version that is installed")
    write_hub_kernel(tmp_path)
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "LOCAL_KERNELS": f"kernels-community/yoso={tmp_path}",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),  # kernels may be anywhere on it
    }
    environment.pop("YOSO_LIBRARY", None)
    result = subprocess.run(
        [sys.executable, "-c", USE_THE_FOLDER], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
