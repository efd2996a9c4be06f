"""YOSO attention as an attn_implementation of transformers.

Layers with a sliding window keep transformers' own attention: YOSO has no window, and a window of
fixed width needs no help at length.
"""

# SPDX-License-Identifier: Apache-2.0
import functools
from typing import Any, Callable, Optional

import torch
from torch import Tensor
from transformers import MODEL_MAPPING, AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import (
    bidirectional_mask_function,
    causal_mask_function,
    sdpa_mask,
)
from transformers.utils import logging
from typing_extensions import Unpack

import yoso
from yoso._checks import check_seed
from yoso.functional import AttentionOptions
from yoso.integrations.transformers.masks import padding_mask

_logger = logging.get_logger(__name__)

# What some models pass to their attention, and what YOSO has no form of.
_REFUSED = {
    "position_bias": "a bias of scores",
    "softcap": "a cap of scores",
    "s_aux": "an attention sink",
    "cu_seq_lens_q": "packed sequences; pad them",
}


def register(name: str = "yoso", **options: Unpack[AttentionOptions]) -> None:
    """Makes YOSO attention an attn_implementation of transformers.

    Then `AutoModel.from_pretrained(..., attn_implementation=name)` and
    `model.set_attn_implementation(name)` take it, for models that are encoders. Several names can be
    registered, each with its options. A layer computes `yoso.attention` of its query, key and value
    [B, H, N, D]. The scale of scores is not used, since rows are normalised, and there is no
    attention dropout: a model that trains with it is told so once.

    Args:
        name: of the implementation; one that is registered is replaced.
        options: those of `yoso.attention`: num_hashes, code_bits, mode, gradient, projection, seed,
            normalize_output, backward_hashes. With a seed, an int, layer i takes the hashes of
            seed + i in each forward. None: each forward draws new ones from torch's default
            generator of the device.

    Raises:
        TypeError: an option is not known; the seed is neither an int nor None.
        ValueError: the seed has more than 64 bits.
        RuntimeError: an option is out of its range.

    A forward raises ValueError for a causal model, for a mask that is not a padding mask (a compiled
    one RuntimeError, when it runs), and for position biases, score caps, attention sinks and packed
    sequences; TypeError for a mask that is no tensor.
    """
    unknown = options.keys() - AttentionOptions.__annotations__.keys()
    if unknown:
        raise TypeError(
            f"register: got the option {sorted(unknown)[0]!r}, expected one of "
            f"{', '.join(AttentionOptions.__annotations__)}"
        )
    if (seed := options.get("seed")) is not None:
        check_seed("register", seed, "an int or None")
    row = torch.zeros(1, 1, 1, 1)
    without_drawing: AttentionOptions = {**options, "seed": 0}
    yoso.attention(row, row, row, **without_drawing)
    AttentionInterface.register(name, _implementation(name, options))
    AttentionMaskInterface.register(name, _mask)


def _implementation(name: str, options: AttentionOptions) -> Callable[..., tuple[Tensor, None]]:
    # transformers' signature: heads come first, and tokens go out first.
    def attention(
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Any,
        scaling: Optional[float] = None,
        dropout: float = 0.0,
        is_causal: Optional[bool] = None,
        sliding_window: Optional[int] = None,
        **others: Any,
    ) -> tuple[Tensor, None]:
        where = f"attn_implementation {name!r} in {type(module).__name__}"
        if getattr(module, "is_causal", False) if is_causal is None else is_causal:
            raise ValueError(_causal(where))
        if sliding_window is not None:
            return sdpa_attention_forward(
                module, query, key, value, attention_mask, dropout, scaling, False, **others
            )
        for argument, meaning in _REFUSED.items():
            if others.get(argument) is not None:
                raise ValueError(f"{where}: got {argument}, expected none: YOSO has no {meaning}")
        if dropout != 0 and not torch.compiler.is_compiling():
            _logger.warning_once(
                f"{where}: attention dropout is {dropout}, expected 0: YOSO has none, so there will "
                "be none"
            )
        layer_options = options
        if (seed := options.get("seed")) is not None:
            layer_options = {**options, "seed": seed + (getattr(module, "layer_idx", None) or 0)}
        out = yoso.attention(
            query,
            key,
            value,
            key_mask=padding_mask(where, attention_mask, key.shape[0], key.shape[2]),
            **layer_options,
        )
        return out.transpose(1, 2).contiguous(), None

    return attention


# transformers calls it once a forward for the layers that share a mask. Without it, it would hand
# over no mask at all.
def _mask(
    *, mask_function: Callable[..., Any], attention_mask: Optional[Tensor] = None, **others: Any
) -> Optional[Tensor]:
    if mask_function is causal_mask_function:
        raise ValueError(_causal(f"attn_implementation {_name_of(others)!r}"))
    _check_that_it_asks(others.get("config"))
    if mask_function is bidirectional_mask_function:
        return attention_mask
    # A sliding window, or what the implementation above refuses when it sees it: not left out, then.
    others["allow_is_causal_skip"] = False
    return sdpa_mask(mask_function=mask_function, attention_mask=attention_mask, **others)


# transformers takes any name that is registered for models that compute attention by themselves, too.
def _check_that_it_asks(config: Any) -> None:
    if torch.compiler.is_compiling():
        return
    kind: Any = type(config)  # mypy takes no type for hashable
    name = _attends_by_itself(kind)
    if name is not None:
        raise ValueError(
            f"attn_implementation {config._attn_implementation!r}: {name} computes attention by "
            "itself, expected a model that asks AttentionInterface for it"
        )


@functools.cache
def _attends_by_itself(config: Any) -> Optional[str]:
    """The name of the model, if it is one of transformers' own and does so."""
    model = MODEL_MAPPING.get(config, None)
    if not isinstance(model, type) or not model.__module__.startswith("transformers.models."):
        return None
    return None if model._can_set_attn_implementation() else model.__name__


def _name_of(arguments: dict[str, Any]) -> str:
    return getattr(arguments.get("config"), "_attn_implementation", "yoso")


def _causal(where: str) -> str:
    return (
        f"{where}: the model is causal, expected an encoder: in YOSO every query sees every key; "
        "use 'sdpa' for this model"
    )
