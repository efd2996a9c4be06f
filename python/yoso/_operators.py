"""What torch must know of the operators besides their kernels: shapes of results, and gradients.

Loads the library first: that of this package, or the one that the environment variable YOSO_LIBRARY
names, for work on the sources. The operators are described in yoso/torch/operators.cc; layouts here
are theirs, [B, N, H, D] and [B, H, M, N], or without B for ragged batches.
"""

# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
from typing import Any, NoReturn, Optional

import torch
from torch import Tensor

_OptionalTensor = Optional[Tensor]


LIBRARY = pathlib.Path(
    os.environ.get("YOSO_LIBRARY") or pathlib.Path(__file__).with_name("libyoso_torch.so")
).resolve()
if not LIBRARY.is_file():
    raise ImportError(
        f"yoso: {LIBRARY} is not there, expected the library of operators: install the package "
        "with pip, or name a build of it in YOSO_LIBRARY"
    )
torch.ops.load_library(LIBRARY)
_ops = torch.ops.yoso

hash = _ops.hash.default
bucket_attention = _ops.bucket_attention.default
_attention = _ops.attention.default


# Shapes.


def _code_type(code_bits: float) -> torch.dtype:
    return torch.uint8 if code_bits <= 8 else torch.uint16


def _sum_type(like: Tensor) -> torch.dtype:
    return torch.float64 if like.dtype == torch.float64 else torch.float32


def _codes(x: Tensor, num_hashes: int, dtype: torch.dtype) -> Tensor:
    *batch, tokens, heads, _ = x.shape
    return x.new_empty(*batch, heads, num_hashes, tokens, dtype=dtype)


def _may_sample(mode: str, code_bits: float) -> bool:
    return mode != "expected" and code_bits in range(1, 17)


# Kernels check this themselves; a tensor without data, beside real ones, gets only here.
def _check_devices(where: str, like: Tensor, **others: _OptionalTensor) -> None:
    for name, x in others.items():
        if x is not None and x.device != like.device:
            raise RuntimeError(f"{where}: {name} is on {x.device}, expected {like.device}")


@torch.library.register_fake("yoso::hash")
def _(
    x: Tensor,
    num_hashes: int,
    code_bits: int,
    seed: int,
    projection: str = "hadamard",
    projection_heads: Optional[int] = None,
) -> Tensor:
    return _codes(x, num_hashes, _code_type(code_bits))


def _rows_like(codes: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    *batch, heads, _, tokens = codes.shape
    return codes.new_empty(*batch, tokens, heads, width, dtype=dtype)


@torch.library.register_fake("yoso::bucket_attention")
def _(
    query_codes: Tensor,
    key_codes: Tensor,
    values: Tensor,
    code_bits: int,
    query_mask: _OptionalTensor = None,
    key_mask: _OptionalTensor = None,
    query_offsets: _OptionalTensor = None,
    key_offsets: _OptionalTensor = None,
    dtype: Optional[torch.dtype] = None,
    longest: Optional[int] = None,
) -> Tensor:
    _check_devices(
        "bucket_attention",
        query_codes,
        key_codes=key_codes,
        values=values,
        query_mask=query_mask,
        key_mask=key_mask,
    )
    return _rows_like(query_codes, values.shape[-1], dtype or values.dtype)


@torch.library.register_fake("yoso::bucket_attention_grad")
def _(
    query_codes: Tensor,
    key_codes: Tensor,
    queries: Tensor,
    keys: Tensor,
    *_: Any,
    **__: Any,
) -> tuple[Tensor, Tensor]:
    dtype = _sum_type(queries)
    return queries.new_empty(queries.shape, dtype=dtype), keys.new_empty(keys.shape, dtype=dtype)


@torch.library.register_fake("yoso::expected_attention")
def _(
    queries: Tensor,
    keys: Tensor,
    query_scale: _OptionalTensor,
    key_scale: _OptionalTensor,
    values: Tensor,
    code_bits: float,
    query_mask: _OptionalTensor = None,
    key_mask: _OptionalTensor = None,
    query_offsets: _OptionalTensor = None,
    key_offsets: _OptionalTensor = None,
    dtype: Optional[torch.dtype] = None,
    longest: Optional[int] = None,
) -> Tensor:
    return queries.new_empty(*queries.shape[:-1], values.shape[-1], dtype=dtype or values.dtype)


@torch.library.register_fake("yoso::expected_attention_grad")
def _(
    queries: Tensor,
    keys: Tensor,
    query_scale: _OptionalTensor,
    key_scale: _OptionalTensor,
    values: Tensor,
    *_: Any,
    **__: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = _sum_type(queries)
    return (
        queries.new_empty(queries.shape, dtype=dtype),
        keys.new_empty(keys.shape, dtype=dtype),
        values.new_empty(values.shape),
    )


@torch.library.register_fake("yoso::residual_norm")
def _(
    x: Tensor,
    branch: _OptionalTensor,
    bias: _OptionalTensor,
    seed: _OptionalTensor,
    dropout: float,
    epsilon: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    sum_ = x.new_empty(0) if branch is None and bias is None else x.new_empty(x.shape)
    return sum_, x.new_empty(x.shape, dtype=dtype), _codes(x, 1, _sum_type(x))


@torch.library.register_fake("yoso::residual_norm_backward")
def _(
    norm: Tensor,
    scale: Tensor,
    sum_grad: _OptionalTensor,
    norm_grad: Tensor,
    seed: _OptionalTensor,
    dropout: float,
    x_dtype: torch.dtype,
    branch_dtype: Optional[torch.dtype],
    need_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    branch_shape = (0,) if branch_dtype is None else norm.shape
    return (
        norm.new_empty(norm.shape, dtype=x_dtype),
        norm.new_empty(branch_shape, dtype=branch_dtype or x_dtype),
        _column_sums(norm) if need_bias else norm.new_empty(0, dtype=x_dtype),
    )


def _column_sums(x: Tensor) -> Tensor:
    return x.new_empty([1] * (x.dim() - 1) + [x.shape[-1]], dtype=_sum_type(x))


torch.library.register_fake("yoso::column_sums")(_column_sums)


@torch.library.register_fake("yoso::attention")
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_mask: _OptionalTensor,
    key_mask: _OptionalTensor,
    query_offsets: _OptionalTensor,
    key_offsets: _OptionalTensor,
    seed: _OptionalTensor,
    num_hashes: int,
    code_bits: float,
    mode: str,
    gradient: str,
    projection: str,
    normalize_output: bool,
    backward_hashes: Optional[int],
    heads_first: bool,
    longest: Optional[int] = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check_devices(
        "yoso_attention", query, key=key, value=value, query_mask=query_mask, key_mask=key_mask
    )
    if heads_first:
        query, key = query.transpose(-3, -2), key.transpose(-3, -2)
    out = query.new_empty(*query.shape[:-1], value.shape[-1])
    scale = _codes(query, 1, _sum_type(value)) if normalize_output else _none(value)
    if _may_sample(mode, code_bits):
        codes = [_codes(x, num_hashes, _code_type(code_bits)) for x in (query, key)]
    else:
        codes = [query.new_empty(0, dtype=torch.uint8) for _ in range(2)]
    return out.transpose(-3, -2) if heads_first else out, scale, codes[0], codes[1]


def _none(like: Tensor) -> Tensor:
    return like.new_empty(0, dtype=_sum_type(like))


@torch.library.register_fake("yoso::attention_backward")
def _(
    out_grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *args: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    heads_first, need_query_or_key, need_value = args[14:17]  # as the schema has them

    def gradient(like: Tensor, needed: bool) -> Tensor:
        if not needed:
            return like.new_empty(0)
        if not heads_first:
            return like.new_empty(like.shape)
        return like.new_empty(like.transpose(-3, -2).shape).transpose(-3, -2)

    return (
        gradient(query, need_query_or_key),
        gradient(key, need_query_or_key),
        gradient(value, need_value),
    )


# Gradients.

_library = torch.library.Library("yoso", "IMPL")


class _Attention(torch.autograd.Function):
    """Autograd of yoso::attention: its rows, and all other arguments as one tuple. Gives out."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, others: tuple[Any, ...]
    ) -> Tensor:
        return _forward(ctx, query, key, value, others)[0]

    @staticmethod
    def backward(ctx: Any, out_grad: _OptionalTensor, *_: Any) -> tuple[_OptionalTensor, ...]:
        if out_grad is None:
            return None, None, None, None
        need_query, need_key, need_value, _ = ctx.needs_input_grad
        *options, _, _, backward_hashes, heads_first, longest = ctx.options
        options += backward_hashes, heads_first, need_query or need_key, need_value, longest
        query_grad, key_grad, value_grad = _ops.attention_backward.default(
            out_grad, *ctx.saved_tensors, *options
        )
        return (
            query_grad if need_query else None,
            key_grad if need_key else None,
            value_grad if need_value else None,
            None,
        )


class _AllOfAttention(_Attention):
    """The same for graphs, where the operator has all its results."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, others: tuple[Any, ...]
    ) -> tuple[Tensor, ...]:
        output = _forward(ctx, query, key, value, others)
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        return output


def _forward(
    ctx: Any, query: Tensor, key: Tensor, value: Tensor, others: tuple[Any, ...]
) -> tuple[Tensor, ...]:
    with torch._C._AutoDispatchBelowAutograd():
        output = _attention(query, key, value, *others)
    result = output if others[10] else (None, None, *output[2:])  # normalize_output
    ctx.save_for_backward(query, key, value, *result, *others[:5])
    # The dispatcher leaves out a last argument, longest, that is its default.
    ctx.options = others[5:] if len(others) == 14 else (*others[5:], None)
    return output


# Function.apply without its way through the transforms of torch.func.
_apply = super(torch.autograd.Function, _Attention).apply


def attention(query: Tensor, key: Tensor, value: Tensor, *others: Any) -> Tensor:
    """The first result of yoso::attention, with autograd.

    The operator alone has it too (below): that is for graphs and torch.func. Here, where the way
    through the dispatcher and back is most of the time of a small call, it is left out.
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return _attention(query, key, value, *others)[0]
    if torch.is_grad_enabled() and torch._C._any_requires_grad(query, key, value):
        return _apply(query, key, value, others)  # type: ignore[no-untyped-call]
    with torch._C._AutoDispatchBelowAutograd():
        return _attention(query, key, value, *others)[0]


# torch.library.register_autograd would do the same, but takes 60 microseconds a call to look up
# the defaults of so many arguments.
def _with_autograd(keys: torch._C.DispatchKeySet, *args: Any) -> tuple[Tensor, ...]:
    if torch.is_grad_enabled() and torch._C._any_requires_grad(*args):
        return _AllOfAttention.apply(*args[:3], args[3:])  # type: ignore[no-untyped-call]
    with torch._C._AutoDispatchBelowAutograd():
        return _attention.redispatch(keys & torch._C._after_autograd_keyset, *args)


_library.impl("attention", _with_autograd, "Autograd", with_keyset=True)


def _keep_bucket_attention(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    query_codes, key_codes, values, ctx.code_bits, *sides, _, ctx.longest = inputs
    ctx.save_for_backward(query_codes, key_codes, *sides)
    ctx.dtype = values.dtype


def _bucket_attention_gradients(ctx: Any, out_grad: Tensor) -> tuple[_OptionalTensor, ...]:
    query_codes, key_codes, query_mask, key_mask, query_offsets, key_offsets = ctx.saved_tensors
    sides = key_mask, query_mask, key_offsets, query_offsets
    value_grad = bucket_attention(
        key_codes, query_codes, out_grad, ctx.code_bits, *sides, ctx.dtype, ctx.longest
    )
    return None, None, value_grad, None, None, None, None, None, None, None


torch.library.register_autograd(
    "yoso::bucket_attention", _bucket_attention_gradients, setup_context=_keep_bucket_attention
)


def _refuse_gradient(name: str, what: str) -> None:
    def refuse(ctx: Any, *_: Any) -> NoReturn:
        raise NotImplementedError(f"yoso.{name}: its gradient is asked for, expected none: {what}")

    torch.library.register_autograd(f"yoso::{name}", refuse)


for _name in (
    "attention_backward",
    "bucket_attention_grad",
    "expected_attention_grad",
    "residual_norm_backward",
):
    _refuse_gradient(_name, "double backward is not supported")
for _name in ("residual_norm", "column_sums"):
    _refuse_gradient(_name, "a part of the C++ encoder, which has its gradient")
_refuse_gradient("expected_attention", "use yoso.attention(mode='expected')")
