"""The functions of yoso: arguments as a user has them, to the operators of the library."""

# SPDX-License-Identifier: Apache-2.0
from typing import Any, Literal, Optional, Union

import torch
from torch import Tensor

from yoso import _library

_library.load()
_ops = torch.ops.yoso

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
    ragged = query_cu_seqlens is not None
    swap = layout == "bhnd" and not ragged
    if swap:
        query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    if seed is None:
        seed = int(torch.randint(2**63 - 1, (), dtype=torch.int64))
    code_bits = 8.0 if code_bits is None else float(code_bits)
    if mode == "auto":
        mode = "sampled" if key.size(-3) > 384 and code_bits == int(code_bits) else "expected"
    out = _Attention.apply(
        query, key, value, query_mask, key_mask, query_cu_seqlens, key_cu_seqlens, num_hashes,
        code_bits, mode, gradient, projection, int(seed), normalize_output,
    )  # fmt: skip
    return out.transpose(1, 2) if swap else out


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query, key, value, query_mask, key_mask, query_offsets, key_offsets,
                num_hashes, code_bits, mode, gradient, projection, seed, normalize):  # fmt: skip
        sides = (query_mask, key_mask, query_offsets, key_offsets)
        query_codes = key_codes = out_scale = unit = None
        wide = torch.float64 if value.dtype == torch.float64 else torch.float32
        dtype = wide if normalize else value.dtype
        if mode == "sampled":
            hash = (num_hashes, int(code_bits), seed, projection, key.size(-2))
            query_codes, key_codes = _ops.hash(query, *hash), _ops.hash(key, *hash)
            out = _ops.bucket_attention(
                query_codes, key_codes, value, int(code_bits), *sides, dtype
            )
        else:
            scales = _ops.row_scales(query), _ops.row_scales(key)
            out = _ops.expected_attention(query, key, *scales, value, code_bits, *sides, dtype)
        if normalize:
            unit, out_scale = _ops.unit_rows(out, value.dtype)
            out = unit
        ctx.save_for_backward(query, key, value, query_codes, key_codes, unit, out_scale, *sides)
        ctx.code_bits, ctx.gradient = code_bits, gradient
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad):  # type: ignore[no-untyped-def]
        query, key, value, query_codes, key_codes, unit, out_scale, *sides = ctx.saved_tensors
        if unit is not None:
            grad = _ops.unit_rows_grad(unit, None, out_scale, grad)
        scales = _ops.row_scales(query), _ops.row_scales(key)
        if query_codes is not None:
            bits = int(ctx.code_bits)
            query_grad, key_grad = _ops.bucket_attention_grad(
                query_codes, key_codes, query, key, *scales, value, grad, bits, ctx.gradient, *sides
            )
            swapped = (sides[1], sides[0], sides[3], sides[2])
            value_grad = _ops.bucket_attention(
                key_codes, query_codes, grad, bits, *swapped, value.dtype
            )
        else:
            query_grad, key_grad, value_grad = _ops.expected_attention_grad(
                query, key, *scales, value, grad, ctx.code_bits, ctx.gradient, *sides
            )
        query_grad = _ops.unit_rows_grad(query, scales[0], scales[0], query_grad, query.dtype)
        key_grad = _ops.unit_rows_grad(key, scales[1], scales[1], key_grad, key.dtype)
        if sides[0] is not None:
            query_grad.masked_fill_(~sides[0][..., None, None], 0)
        if sides[1] is not None:
            key_grad.masked_fill_(~sides[1][..., None, None], 0)
        return (query_grad, key_grad, value_grad) + (None,) * 11
