"""Masks as models hand them over, to the one that YOSO takes: bool [B, N], True = real token."""

# SPDX-License-Identifier: Apache-2.0
from typing import Any, Optional

import torch
from torch import Tensor

from yoso._checks import require

# Additive masks hold 0 for a real token and at most this for a padded one.
_PADDED = -10000.0


def padding_mask(name: str, mask: Any, batch: int, tokens: int) -> Optional[Tensor]:
    """The padding mask that `mask` is: bool [batch, tokens], or None where it is None.

    Takes [batch, tokens] of bool or of 0 and 1, and [batch or 1, heads or 1, queries or 1, tokens]
    of bool or of additive weights, if it masks the same tokens for each head and query. Values are
    looked at unless the mask is bool [batch, tokens]; that waits for a GPU, but for a compiled
    graph, which raises when it runs.
    """
    if mask is None:
        return None
    if not isinstance(mask, Tensor):
        raise TypeError(f"{name}: the mask is a {type(mask).__name__}, expected a tensor or None")
    if mask.dim() == 2:
        real = _from_numbers(name, mask)
    elif mask.dim() == 4:
        real = _from_pairs(name, mask)
    else:
        real = mask
    if real.shape not in ((batch, tokens), (1, tokens)):
        raise ValueError(
            f"{name}: the mask is {list(mask.shape)}, expected a padding mask: [{batch}, {tokens}] "
            f"or [{batch}, 1, 1, {tokens}]"
        )
    return real.expand(batch, tokens)


def _from_numbers(name: str, mask: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        return mask
    real = mask != 0
    require(
        real == mask,
        f"{name}: the mask of {mask.dtype} has values other than 0 and 1, expected 1 for a real "
        "token and 0 for padding",
    )
    return real


def _from_pairs(name: str, mask: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        real = mask
    else:
        if mask.requires_grad:
            raise ValueError(
                f"{name}: the 4-D mask of {mask.dtype} is learned, expected a padding mask: YOSO has "
                "no bias of scores"
            )
        real = mask == 0
        require(
            real | (mask <= _PADDED),
            f"{name}: the 4-D mask of {mask.dtype} has values between {_PADDED:g} and 0 or above 0, "
            "expected a padding mask: YOSO has no bias of scores",
        )
    first = real[:, :1, :1]
    require(
        real == first,
        f"{name}: the 4-D mask differs between queries or heads, expected a padding mask: the same "
        "tokens masked for all of them",
    )
    return first[:, 0, 0]
