"""Devices of the tests, and YOSO attention as plain algebra in double: what they compare with."""

# SPDX-License-Identifier: Apache-2.0
import math
import os
import shutil
import sysconfig
from pathlib import Path

import pytest
import torch
import yoso
from torch import Tensor

# For tests of transformers, which would fetch a kernel for its own YOSO model where there is a GPU.
os.environ["HF_HUB_OFFLINE"] = "1"

_NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


def gpu_code() -> bool:
    """Whether the library has code for this GPU."""
    x = torch.ones(1, 1, 1, 1, device="cuda")
    try:
        yoso.attention(x, x, x, mode="expected")
    except RuntimeError:
        return False
    return True


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=_NO_GPU)])
def device(request: pytest.FixtureRequest) -> str:
    """Each device that a test can run on."""
    if request.param == "cuda" and not gpu_code():
        pytest.skip("yoso was built without code for this GPU")
    return request.param


@pytest.fixture
def cuda() -> str:
    """The GPU, for what only a GPU has."""
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    if not gpu_code():
        pytest.skip("yoso was built without code for this GPU")
    return "cuda"


@pytest.fixture
def inductor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The default backend of torch.compile, which compiles C or C++ itself.

    With a cache of its own: what it keeps of a graph does not know which gradients yoso had then.
    """
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    for program in ("gcc", "g++", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"torch.compile's default backend needs {program}")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        pytest.skip("torch.compile's default backend needs Python.h")
    torch._dynamo.reset()


@pytest.fixture(autouse=True)
def fixed_numbers() -> None:
    """Same inputs whatever ran before."""
    torch.manual_seed(20261)


def normalized(x: Tensor) -> Tensor:
    """Rows divided by their norms."""
    return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def formula(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    code_bits: float = 8,
    codes: tuple[Tensor, Tensor] | None = None,
    gradient: str = "surrogate",
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    normalize_output: bool = True,
) -> Tensor:
    """docs/math.md in double on [B, H, N, D], expected, or sampled with these codes [B, H, M, N].

    Its autograd gives the declared gradient: the weight is replaced by weight + slope * (x - x),
    whose derivative in the cosine x is the slope.
    """
    repeats = query.shape[1] // key.shape[1]
    query, key, value = query.double(), key.double(), value.double()
    key, value = (x.repeat_interleave(repeats, 1) for x in (key, value))
    cosine = normalized(query) @ normalized(key).mT
    x = cosine.detach()
    collision = 1 - x.clamp(-1, 1).acos() / math.pi
    if codes is None:
        weight, collided = collision**code_bits, torch.ones_like(x)
    else:
        of_keys = codes[1].int().repeat_interleave(repeats, 1)
        equal = codes[0].int()[..., :, None] == of_keys[..., None, :]
        weight, collided = equal.double().mean(2), equal.any(2).double()
    if gradient == "surrogate":
        slope = code_bits / 2 * weight
    else:
        root = (1 - x * x).clamp_min(1e-4).sqrt()
        slope = collided * code_bits * collision ** (code_bits - 1) / (math.pi * root)
    weight = weight + slope * (cosine - x)
    if query_mask is not None:
        weight = weight * query_mask[:, None, :, None]
    if key_mask is not None:
        weight = weight * key_mask[:, None, None, :]
    out = weight @ value
    return normalized(out) if normalize_output else out


def gradients(out: Tensor, inputs: tuple[Tensor, ...], weight: Tensor) -> tuple[Tensor, ...]:
    """Of sum(out * weight)."""
    return torch.autograd.grad(out, inputs, weight.to(out.dtype))


def rows(*shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    """Normal numbers with a gradient; the same on each device."""
    return torch.randn(*shape, dtype=torch.float64).to(device, dtype).requires_grad_()
