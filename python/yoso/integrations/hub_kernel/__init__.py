"""The three functions of the kernel that transformers' YOSO model calls, for CPU and GPU.

Groups G are sequences times heads; masks are [G, N], 0 or False = padding; codes int32 [G, N, M].
Sums run over real keys that share a code with the query, and are divided by M, the number of codes
of a row; rows of masked queries are 0. Any N, M and width from 1 to 256. None has a gradient of its
own: the model's backward calls them. Names and order of arguments are those of the hub's kernel.
"""

# This folder is a kernel by itself once the library of operators lies beside it: it imports nothing
# of yoso (see yoso/integrations/hub.py).
# SPDX-License-Identifier: Apache-2.0
import torch
from torch import Tensor

from ._ops import ops

__all__ = ["fast_hash", "lsh_cumulation", "lsh_weighted_cumulation"]


def fast_hash(
    query_mask: Tensor,
    query_vector: Tensor,
    key_mask: Tensor,
    key_vector: Tensor,
    num_hash_f: int,
    hash_code_len: int,
    use_cuda: bool,
    version: int,
) -> list[Tensor]:
    """Codes of queries and keys by Hadamard projections, see `yoso.hash`; new ones each call.

    Drawn from torch's default CPU generator, others for each group. Masked rows have code 0.

    Args:
        query_mask: [G, Nq], 0 or False = padding.
        query_vector: [G, Nq, D], floating, D from 1 to 256.
        key_mask: [G, Nk].
        key_vector: [G, Nk, D].
        num_hash_f: M, at least 1.
        hash_code_len: T, 1 to 16.
        use_cuda: whether the tensors are on a GPU.
        version: 1.

    Returns:
        The codes of queries [G, Nq, M] and of keys [G, Nk, M], int32.

    Raises:
        TypeError: a mask or vector is no tensor.
        ValueError: use_cuda is not where the tensors are; the version is not known.
        RuntimeError: shapes do not fit each other, or a number is out of its range.
    """
    tensors = dict(query_mask=query_mask, query_vector=query_vector)
    tensors |= dict(key_mask=key_mask, key_vector=key_vector)
    _check("fast_hash", tensors, use_cuda, version, (1,))
    seed = int(torch.randint(2**63 - 1, (), device="cpu"))

    def codes(rows: Tensor, mask: Tensor) -> Tensor:
        # One sequence with a head for each group: heads have projections of their own.
        by_head = ops.hash(rows.transpose(0, 1)[None], num_hash_f, hash_code_len, seed)
        return by_head[0].transpose(1, 2).int() * (mask != 0)[..., None]

    return [codes(query_vector, query_mask), codes(key_vector, key_mask)]


def lsh_cumulation(
    query_mask: Tensor,
    query_hash_code: Tensor,
    key_mask: Tensor,
    key_hash_code: Tensor,
    value: Tensor,
    hashtable_capacity: int,
    use_cuda: bool,
    version: int,
) -> Tensor:
    """For each query the values of keys that share codes with it.

        out_i = 1/M sum_m sum_j [query_hash_code[i, m] = key_hash_code[j, m]] value_j

    Args:
        query_mask: [G, Nq], 0 or False = padding.
        query_hash_code: [G, Nq, M] int32, of which the lower bits below the capacity count.
        key_mask: [G, Nk].
        key_hash_code: [G, Nk, M] int32.
        value: [G, Nk, V], floating, V from 1 to 256.
        hashtable_capacity: 2^T, from 2 to 65536.
        use_cuda: whether the tensors are on a GPU.
        version: 1.

    Returns:
        [G, Nq, V] of the type of value.

    Raises:
        TypeError: an argument is no tensor, or codes are not int32.
        ValueError: the capacity is no power of two in its range; use_cuda is not where the tensors
            are; the version is not known.
        RuntimeError: shapes do not fit each other.
    """
    tensors = dict(query_mask=query_mask, query_hash_code=query_hash_code)
    tensors |= dict(key_mask=key_mask, key_hash_code=key_hash_code, value=value)
    _check("lsh_cumulation", tensors, use_cuda, version, (1,))
    bits = _bits("lsh_cumulation", hashtable_capacity)
    out = ops.bucket_attention(
        _codes(query_hash_code, bits),
        _codes(key_hash_code, bits),
        value[:, :, None],
        bits,
        query_mask != 0,
        key_mask != 0,
    )
    return out[:, :, 0]


def lsh_weighted_cumulation(
    query_mask: Tensor,
    query_hash_code: Tensor,
    query_weight: Tensor,
    key_mask: Tensor,
    key_hash_code: Tensor,
    key_weight: Tensor,
    value: Tensor,
    hashtable_capacity: int,
    use_cuda: bool,
    version: int,
) -> Tensor:
    """lsh_cumulation in which value j counts query_weight_i . key_weight_j times for query i.

        out_i = 1/M sum_m sum_j [codes of i and j equal] (query_weight_i . key_weight_j) value_j

    Args:
        query_mask: [G, Nq], 0 or False = padding.
        query_hash_code: [G, Nq, M] int32, of which the lower bits below the capacity count.
        query_weight: [G, Nq, W], floating, W from 1 to 256.
        key_mask: [G, Nk].
        key_hash_code: [G, Nk, M] int32.
        key_weight: [G, Nk, W].
        value: [G, Nk, V], floating, V from 1 to 256.
        hashtable_capacity: 2^T, from 2 to 65536.
        use_cuda: whether the tensors are on a GPU.
        version: 1 to 4: in the original, ways to compute it.

    Returns:
        [G, Nq, V] of the type of value.

    Raises:
        TypeError, ValueError, RuntimeError: as `lsh_cumulation`.
    """
    tensors = dict(query_mask=query_mask, query_hash_code=query_hash_code)
    tensors |= dict(key_mask=key_mask, key_hash_code=key_hash_code, value=value)
    tensors |= dict(query_weight=query_weight, key_weight=key_weight)
    _check("lsh_weighted_cumulation", tensors, use_cuda, version, (1, 2, 3, 4))
    bits = _bits("lsh_weighted_cumulation", hashtable_capacity)
    # It is the gradient of queries in YOSO attention, short of a factor bits / 2, with the values as
    # keys. That of the keys, which is not needed, is computed from queries that are all 0.
    queries = value.new_zeros(1).expand(*query_weight.shape[:2], value.shape[2])
    out, _ = ops.bucket_attention_grad(
        _codes(query_hash_code, bits),
        _codes(key_hash_code, bits),
        queries[:, :, None],
        value[:, :, None],
        None,
        None,
        key_weight[:, :, None],
        query_weight[:, :, None],
        bits,
        query_mask=query_mask != 0,
        key_mask=key_mask != 0,
    )
    return (out[:, :, 0] * (2 / bits)).to(value.dtype)


# transformers takes this one function for the kernel and looks for all three in it.
lsh_cumulation.fast_hash = fast_hash  # type: ignore[attr-defined]
lsh_cumulation.lsh_cumulation = lsh_cumulation  # type: ignore[attr-defined]
lsh_cumulation.lsh_weighted_cumulation = lsh_weighted_cumulation  # type: ignore[attr-defined]


def _check(
    name: str,
    tensors: dict[str, Tensor],
    use_cuda: bool,
    version: int,
    versions: tuple[int, ...],
) -> None:
    for argument, x in tensors.items():
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: {argument} is a {type(x).__name__}, expected a tensor")
        if argument.endswith("_code") and x.dtype != torch.int32:
            raise TypeError(f"{name}: {argument} is {x.dtype}, expected torch.int32")
        if x.is_cuda != use_cuda:
            raise ValueError(
                f"{name}: use_cuda is {use_cuda} with {argument} on {x.device}, expected {x.is_cuda}"
            )
    if version not in versions:
        raise ValueError(f"{name}: version is {version}, expected one of {versions}")


def _bits(name: str, hashtable_capacity: int) -> int:
    bits = hashtable_capacity.bit_length() - 1
    if not 1 <= bits <= 16 or hashtable_capacity != 2**bits:
        raise ValueError(
            f"{name}: hashtable_capacity is {hashtable_capacity}, expected a power of two from 2 to "
            "65536"
        )
    return bits


# [G, N, M] to the operators' [G, 1, M, N]. Codes that are too large would reach beyond the tables:
# their upper bits are dropped.
def _codes(codes: Tensor, bits: int) -> Tensor:
    small = codes.transpose(1, 2)[:, None] & (2**bits - 1)
    return small.to(torch.uint8 if bits <= 8 else torch.uint16)
