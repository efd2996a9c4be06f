"""The functions of yoso: arguments as a user has them, to the operators of the library."""

# SPDX-License-Identifier: Apache-2.0
from typing import Literal, Optional, Union

import torch
from torch import Tensor

from yoso import _operators

Mode = Literal["auto", "sampled", "expected"]
Gradient = Literal["surrogate", "true"]
Projection = Literal["hadamard", "gaussian"]
Layout = Literal["bhnd", "bnhd"]


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Optional[Tensor] = None,
    query_mask: Optional[Tensor] = None,
    key_mask: Optional[Tensor] = None,
    cu_seqlens: Optional[Tensor] = None,
    query_cu_seqlens: Optional[Tensor] = None,
    key_cu_seqlens: Optional[Tensor] = None,
    num_hashes: int = 32,
    code_bits: Optional[float] = None,
    mode: Mode = "auto",
    gradient: Gradient = "surrogate",
    projection: Projection = "hadamard",
    seed: Union[int, Tensor, None] = None,
    normalize_output: bool = True,
    backward_hashes: Optional[int] = None,
    layout: Layout = "bhnd",
    is_causal: bool = False,
) -> Tensor:
    """YOSO attention over heads.

    query [B, Hq, Nq, D], key [B, Hk, Nk, D], value [B, Hk, Nk, V] -> [B, Hq, Nq, V].
    Masks are bool [B, N], True = real; `mask` is for both sides, the others for one.
    """
    if is_causal:
        raise ValueError(
            "yoso.attention: is_causal is True, expected False: every query sees every key; use "
            "torch.nn.functional.scaled_dot_product_attention for causal attention"
        )
    if mask is not None:
        query_mask = key_mask = mask
    if cu_seqlens is not None:
        query_cu_seqlens = key_cu_seqlens = cu_seqlens
    if seed is None and mode != "expected":
        seed = torch.randint(2**63 - 1, (), dtype=torch.int64, device="cpu")
    elif isinstance(seed, int):
        seed = torch.full((), seed, dtype=torch.int64, device="cpu")
    code_bits = 8.0 if code_bits is None else float(code_bits)
    out, *_ = _operators.attention(
        query,
        key,
        value,
        query_mask,
        key_mask,
        query_cu_seqlens,
        key_cu_seqlens,
        seed,
        num_hashes,
        code_bits,
        mode,
        gradient,
        projection,
        normalize_output,
        backward_hashes,
        layout == "bhnd" and query_cu_seqlens is None,
    )
    return out
