"""The functions of yoso: a user's arguments, handed to the operators of the library.

Letters: B batch, H heads, N tokens (Nq queries, Nk keys), D width of queries and keys, V of values,
M hash functions, T bits of a code. Rows are [B, H, N, D] with layout "bhnd" and [B, N, H, D] with
"bnhd"; ragged batches (cu_seqlens) are [total, H, D] in either. Masks are bool, True = real token.
An error says what is wrong, what was got and what was expected. What the operators refuse is a
RuntimeError.
"""

# SPDX-License-Identifier: Apache-2.0
from typing import Literal, Optional, TypedDict, Union

import torch
from torch import Tensor
from torch.autograd import forward_ad

from yoso import _operators
from yoso._checks import both_sides, check_seed, check_tensors

Mode = Literal["auto", "sampled", "expected"]
Gradient = Literal["surrogate", "true"]
Projection = Literal["hadamard", "gaussian"]
Layout = Literal["bhnd", "bnhd"]


class AttentionOptions(TypedDict, total=False):
    """The options of `attention` that modules and `register` keep, with its defaults."""

    num_hashes: int
    code_bits: Optional[float]
    mode: Mode
    gradient: Gradient
    projection: Projection
    seed: Union[int, Tensor, None]
    normalize_output: bool
    backward_hashes: Optional[int]


# 8 is where a GPU's tables of buckets are fast, and enough for some thousand tokens.
DEFAULT_CODE_BITS = 8


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
    max_seqlen: Optional[int] = None,
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
    """YOSO attention: values weighted by how often queries and keys share a hash code.

        out_i = normalize(sum_j p_ij value_j),    p_ij = (1 - acos(q_i . k_j) / pi)^T

    with q and k the rows of `query` and `key` divided by their norms. Expected attention computes
    p_ij, in time quadratic in N. Sampled attention takes the share of M hashes in which the T-bit
    codes of i and j are equal, whose mean is p_ij, in time and memory linear in N.

    Args:
        query: [B, Hq, Nq, D], D from 1 to 256; float32, float64 (CPU), bfloat16 or float16.
        key: [B, Hk, Nk, D], Hq a multiple of Hk; device and type of `query`.
        value: [B, Hk, Nk, V], V from 1 to 256; device and type of `query`.
        mask: [B, N], or [total] of a ragged batch: real tokens of both sides (self-attention).
            Whatever masked rows hold does not matter: their outputs and gradients are 0.
        query_mask: [B, Nq], real tokens of the queries alone.
        key_mask: [B, Nk], real tokens of the keys alone.
        cu_seqlens: [B + 1] of int32 or int64, from 0 to total: where the sequences of a ragged batch
            begin, for both sides. On a GPU they are copied to the CPU, which waits for the GPU, unless
            `max_seqlen` is given: pass int64 on the CPU, or that.
        query_cu_seqlens: [B + 1], for the queries alone, with `key_cu_seqlens`.
        key_cu_seqlens: [B + 1], for the keys alone, with `query_cu_seqlens`.
        max_seqlen: at least the tokens of the longest sequence of either side. With it cu_seqlens on
            the GPU of query stay there: nothing waits for them, a CUDA graph reads them when it
            replays, and they may end before total: tokens that follow give 0. That they rise and no
            sequence is longer is checked on the GPU, where a mistake stops all work of the process.
            Scratch memory grows with B x max_seqlen.
        num_hashes: M, at least 1.
        code_bits: T; more than 0, and an integer from 1 to 16 when sampled. None: 8.
        mode: "sampled", "expected", or "auto": the faster one for device, length and, on a CPU, mask.
        gradient: of queries and keys. "surrogate": the paper's lower bound of the slope. "true":
            the slope itself, at pairs that collided.
        projection: "hadamard", or "gaussian": slower, and exactly the probability above. For rows
            narrower than 32 take the latter: the bias of the former grows as rows get narrower.
        seed: fixes the hashes: an int of 64 bits, or a tensor of one int64 on the CPU or on the
            device of query. A compiled graph does not bake in the number of a tensor, a CUDA graph
            not that of a tensor on its GPU. None: drawn from torch's default generator of query's
            device, without waiting for a GPU: a CUDA graph draws anew at each replay.
        normalize_output: divide output rows by their norm (the paper's layer).
        backward_hashes: m, a divisor of M: the gradients of queries and keys come from a random m of
            the hashes, an unbiased estimate for less time; with the surrogate gradient. None: all.
        layout: "bhnd" or "bnhd", of query, key, value and result.
        is_causal: refused.

    Returns:
        [B, Hq, Nq, V] of the type of query, with a gradient for query, key and value. Under
        autocast, inputs are cast as for torch's own attention.

    Raises:
        ValueError: is_causal is True; the layout is unknown; a mask or cu_seqlens for both sides is
            not alone; max_seqlen is negative or without cu_seqlens; the seed has more than 64 bits.
        TypeError: query, key, value, a mask or cu_seqlens is no tensor; cu_seqlens holds no
            integers; the seed is neither an int nor a tensor.
        RuntimeError: shapes, types or devices do not fit each other; a mask is not bool [B, N];
            cu_seqlens on the CPU does not rise from 0 to total; an option is out of its range.
        NotImplementedError: double backward or forward-mode differentiation is asked for.
    """
    if is_causal:
        raise ValueError(
            "yoso.attention: is_causal is True, expected False: each query sees all keys; use "
            "torch.nn.functional.scaled_dot_product_attention for causal attention"
        )
    if not (isinstance(query, Tensor) and isinstance(key, Tensor) and isinstance(value, Tensor)):
        check_tensors("yoso.attention", ("query", query), ("key", key), ("value", value))
    if forward_ad._current_level >= 0:
        _refuse_tangents("yoso.attention", query, key, value)
    if query.is_cpu or query.is_cuda:
        device = "cpu" if query.is_cpu else "cuda"
        if torch.is_autocast_enabled(device):
            query, key, value = _autocast(device, query, key, value)
    query_mask, key_mask = both_sides("yoso.attention", "mask", mask, query_mask, key_mask)
    query_offsets, key_offsets = both_sides(
        "yoso.attention", "cu_seqlens", cu_seqlens, query_cu_seqlens, key_cu_seqlens
    )
    if max_seqlen is not None:
        _check_max_seqlen(max_seqlen, query_offsets)
    if seed is None:
        if mode != "expected":
            # On a GPU, nothing waits for it, and a CUDA graph draws another one when it replays.
            place = query.device if query.is_cuda else "cpu"
            seed = torch.randint(2**63 - 1, (), dtype=torch.int64, device=place)
    elif not isinstance(seed, Tensor):
        check_seed("yoso.attention", seed, "an int or a tensor of one int64")
        seed = torch.full((), seed, dtype=torch.int64, device="cpu")
    return _operators.attention(
        query,
        key,
        value,
        query_mask,
        key_mask,
        None if query_offsets is None else _offsets("query_cu_seqlens", query_offsets, max_seqlen),
        None if key_offsets is None else _offsets("key_cu_seqlens", key_offsets, max_seqlen),
        seed,
        num_hashes,
        float(DEFAULT_CODE_BITS) if code_bits is None else code_bits,
        mode,
        gradient,
        projection,
        normalize_output,
        backward_hashes,
        _heads_first(layout) and query_offsets is None,
        max_seqlen,
    )


def expected_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Optional[Tensor] = None,
    query_mask: Optional[Tensor] = None,
    key_mask: Optional[Tensor] = None,
    code_bits: Optional[float] = None,
    gradient: Gradient = "surrogate",
    normalize_output: bool = False,
    layout: Layout = "bhnd",
) -> Tensor:
    """The mean of sampled attention over all hashes: what tests compare with.

        out_i = sum_j (1 - acos(q_i . k_j) / pi)^T value_j

    `attention` with mode="expected", without normalisation unless asked for. Time O(Nq Nk (D + V)).

    Args:
        query: [B, Hq, Nq, D], as `attention` takes them; so are the other arguments.
        key: [B, Hk, Nk, D].
        value: [B, Hk, Nk, V].
        mask: [B, N], real tokens of both sides.
        query_mask: [B, Nq].
        key_mask: [B, Nk].
        code_bits: T, more than 0. None: 8.
        gradient: "surrogate" or "true": the derivative.
        normalize_output: divide output rows by their norm.
        layout: "bhnd" or "bnhd".

    Returns:
        [B, Hq, Nq, V] of the type of query, with a gradient.

    Raises:
        ValueError, TypeError, RuntimeError, NotImplementedError: as `attention`.
    """
    return attention(
        query,
        key,
        value,
        mask=mask,
        query_mask=query_mask,
        key_mask=key_mask,
        code_bits=code_bits,
        mode="expected",
        gradient=gradient,
        normalize_output=normalize_output,
        layout=layout,
    )


def hash(
    x: Tensor,
    *,
    seed: int,
    num_hashes: int = 32,
    code_bits: int = DEFAULT_CODE_BITS,
    projection: Projection = "hadamard",
    projection_heads: Optional[int] = None,
    layout: Layout = "bhnd",
) -> Tensor:
    """Codes of rows by the signs of random projections P of a head.

        codes[m, i] = sum_t [(P x_i)[m, t] > 0] 2^t,    t from 0 to T - 1

    Two rows share a code with probability (1 - acos(cosine) / pi)^T, exactly for "gaussian"
    projections. The same seed gives the same projections for queries and keys, alone and in any
    batch; scaling a row by a positive number keeps its codes. Has no gradient.

    Args:
        x: [B, H, N, D] rows, D from 1 to 256; float32, float64 (CPU), bfloat16 or float16.
        seed: of the projections, an int of 64 bits.
        num_hashes: M, at least 1: codes of each row.
        code_bits: T, 1 to 16.
        projection: "hadamard" or "gaussian"; the latter for rows narrower than 32, see `attention`.
        projection_heads: divides H; head h uses projection h / (H / projection_heads), as the query
            heads that share a key head must. None: H.
        layout: "bhnd" or "bnhd", of x.

    Returns:
        [B, H, M, N] on the device of x, uint8 up to 8 bits and uint16 above.

    Raises:
        ValueError: the layout is unknown; x has less than three dimensions; the seed has more than
            64 bits.
        TypeError: x is no tensor; the seed is no int.
        RuntimeError: x is not [B, H, N, D] of a floating type; num_hashes, code_bits, projection or
            projection_heads is out of its range.
    """
    check_tensors("yoso.hash", ("x", x))
    check_seed("yoso.hash", seed, "an int")
    rows = _tokens_first("yoso.hash", "x", x, layout)
    return _operators.hash(rows, num_hashes, code_bits, seed, projection, projection_heads)


def bucket_attention(
    query_codes: Tensor,
    key_codes: Tensor,
    value: Tensor,
    *,
    code_bits: int = DEFAULT_CODE_BITS,
    mask: Optional[Tensor] = None,
    query_mask: Optional[Tensor] = None,
    key_mask: Optional[Tensor] = None,
    layout: Layout = "bhnd",
) -> Tensor:
    """Values summed by collisions of codes, in time O((Nq + Nk) M V).

        out_i = 1/M sum_m sum_j [query_codes[m, i] = key_codes[m, j]] value_j

    Differentiable in `value`, any number of times, but not in forward mode.

    Args:
        query_codes: [B, Hq, M, Nq], as `hash` gives them: uint8 up to 8 bits, uint16 above.
        key_codes: [B, Hk, M, Nk], Hq a multiple of Hk; device and type of `query_codes`.
        value: [B, Hk, Nk, V], V from 1 to 256; float32, float64 (CPU), bfloat16 or float16.
        code_bits: T, 1 to 16. Of codes with more bits the lower T count.
        mask: [B, N], real tokens of both sides: the outputs of others are 0.
        query_mask: [B, Nq], real tokens of the queries alone.
        key_mask: [B, Nk], real tokens of the keys alone.
        layout: "bhnd" or "bnhd", of value and result.

    Returns:
        [B, Hq, Nq, V] of the type of value, not normalised.

    Raises:
        ValueError: the layout is unknown; value has less than three dimensions; `mask` is not alone.
        TypeError: the codes, value or a mask are no tensors.
        RuntimeError: shapes, types or devices do not fit each other; a mask is not bool [B, N];
            code_bits is out of its range, or not of the type of the codes.
        NotImplementedError: forward-mode differentiation is asked for.
    """
    name = "yoso.bucket_attention"
    codes = ("query_codes", query_codes), ("key_codes", key_codes)
    check_tensors(name, *codes, ("value", value))
    if forward_ad._current_level >= 0:
        _refuse_tangents(name, value)
    query_mask, key_mask = both_sides(name, "mask", mask, query_mask, key_mask)
    rows = _tokens_first(name, "value", value, layout)
    lower = (_lower_bits(x, code_bits) for _, x in codes)
    out = _operators.bucket_attention(*lower, rows, code_bits, query_mask, key_mask)
    return out.transpose(-3, -2) if _heads_first(layout) else out


def _heads_first(layout: str) -> bool:
    if layout not in ("bhnd", "bnhd"):
        raise ValueError(f"yoso: layout is {layout!r}, expected 'bhnd' or 'bnhd'")
    return layout == "bhnd"


def _tokens_first(where: str, name: str, rows: Tensor, layout: Layout) -> Tensor:
    if not _heads_first(layout):
        return rows
    if rows.dim() < 3:
        raise ValueError(f"{where}: {name} is {list(rows.shape)}, expected [B, H, N, width]")
    return rows.transpose(-3, -2)


# The operator's tables have 2 ** code_bits buckets: a larger code would reach beyond them.
def _lower_bits(codes: Tensor, code_bits: int) -> Tensor:
    if codes.dtype == torch.uint8 and code_bits in range(1, 8):
        return codes & (2**code_bits - 1)
    if codes.dtype == torch.uint16 and code_bits in range(9, 16):  # torch has no & for uint16
        return (codes.view(torch.int16) & (2**code_bits - 1)).view(torch.uint16)
    return codes


def _check_max_seqlen(max_seqlen: int, cu_seqlens: Optional[Tensor]) -> None:
    if cu_seqlens is None:
        raise ValueError(
            f"yoso.attention: max_seqlen is {max_seqlen}, expected None without cu_seqlens"
        )
    if max_seqlen < 0:
        raise ValueError(f"yoso.attention: max_seqlen is {max_seqlen}, expected at least 0")


def _offsets(name: str, cu_seqlens: Tensor, max_seqlen: Optional[int]) -> Tensor:
    if cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise TypeError(
            f"yoso.attention: {name} is {cu_seqlens.dtype}, expected torch.int32 or torch.int64"
        )
    if max_seqlen is not None:
        return cu_seqlens.to(torch.int64)
    return cu_seqlens.to("cpu", torch.int64)


def _autocast(device: str, *rows: Tensor) -> list[Tensor]:
    dtype = torch.get_autocast_dtype(device)
    narrow = torch.float32, torch.bfloat16, torch.float16
    return [x.to(dtype) if x.dtype in narrow else x for x in rows]


def _refuse_tangents(where: str, *rows: Tensor) -> None:
    for x in rows:
        if forward_ad.unpack_dual(x).tangent is not None:
            raise NotImplementedError(
                f"{where}: an input has a tangent, expected none: forward-mode "
                "differentiation is not supported"
            )
