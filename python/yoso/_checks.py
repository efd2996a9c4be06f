"""What Python can say about arguments before an operator sees them: what is wrong, got, expected."""

# SPDX-License-Identifier: Apache-2.0
from typing import Any, Optional

import torch
from torch import Tensor


def check_tensors(where: str, *arguments: tuple[str, Any]) -> None:
    """Raises TypeError for the first argument (its name, its value) that is no tensor."""
    for name, x in arguments:
        if not isinstance(x, Tensor):
            raise TypeError(f"{where}: {name} is a {type(x).__name__}, expected a tensor")


def check_optional_tensors(where: str, *arguments: tuple[str, Any]) -> None:
    """The same, where None stands for no tensor."""
    check_tensors(where, *((name, x) for name, x in arguments if x is not None))


def check_seed(where: str, seed: Any, expected: str) -> None:
    """Raises TypeError or ValueError unless it is an int of 64 bits."""
    if not isinstance(seed, int):
        raise TypeError(f"{where}: seed is a {type(seed).__name__}, expected {expected}")
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"{where}: seed is {seed}, expected -2**63 to 2**63 - 1")


def both_sides(
    where: str, name: str, both: Optional[Tensor], query: Optional[Tensor], key: Optional[Tensor]
) -> tuple[Optional[Tensor], Optional[Tensor]]:
    """Of a mask, or of cu_seqlens: that of the queries and that of the keys.

    Raises TypeError where one is no tensor, ValueError where `both` is not alone.
    """
    if both is None and query is None and key is None:
        return None, None
    sides = (name, both), (f"query_{name}", query), (f"key_{name}", key)
    check_optional_tensors(where, *sides)
    if both is None:
        return query, key
    if query is not None or key is not None:
        raise ValueError(
            f"{where}: {name} is given with query_{name} or key_{name}, expected it alone: it is "
            "for both sides"
        )
    return both, both


def require(condition: Tensor, message: str) -> None:
    """Raises ValueError unless `condition` holds everywhere; waits for a GPU.

    In a compiled graph, whose tensors have no values yet, RuntimeError when it runs.
    """
    if torch.compiler.is_compiling():
        require_later(condition, message)
    elif not condition.all():
        raise ValueError(message)


def require_later(condition: Tensor, message: str) -> None:
    """Raises RuntimeError unless `condition` holds everywhere: at once on a CPU.

    On a GPU, which nothing waits for here, at some later call, as for an index out of range.
    """
    torch._assert_async(condition.all(), message)
