"""transformers' own YOSO model on our operators.

Its sampled path cannot run, its masks have no effect, and its expectation can be NaN where a query
meets itself. One method of one class computes all that; here is another one for it.
"""

# SPDX-License-Identifier: Apache-2.0
import importlib
from typing import Any, Literal, Optional

import torch
from torch import Tensor

import yoso
from yoso._convolution import convolve_tokens, is_convolution_avoided
from yoso.integrations import hub_kernel
from yoso.integrations.transformers.masks import padding_mask

MaskMode = Literal["strict", "hf_compat"]

# The second is where transformers keeps models that it no longer tests.
_PLACES = (
    "transformers.models.yoso.modeling_yoso",
    "transformers.models.deprecated.yoso.modeling_yoso",
)
# What a patched module had before: its kernel, and the forward of its attention.
_before: dict[Any, tuple[Any, Any]] = {}


def patch_yoso(mask_mode: MaskMode = "strict") -> None:
    """Lets transformers' YOSO models run on our operators, on CPU and GPU.

    Models that exist and models to come, all heads, `use_expectation` True or False, as their
    config says (num_hash, hash_code_len, use_fast_hash, lsh_backward, conv_window). Hashes are
    drawn from torch's default generator of the device. A second call replaces the first;
    `unpatch_yoso` undoes it.

    Args:
        mask_mode: "strict": padded tokens count for nothing, and their outputs are 0 in each
            attention. "hf_compat": as transformers computes today: padding takes part in attention,
            and is masked in the convolution alone. For numbers that were made that way.

    Raises:
        ValueError: mask_mode is neither. A strict forward raises it for a mask that is not a padding
            mask, and with output_attentions.
        ImportError: this transformers has no YOSO model.
    """
    if mask_mode not in ("strict", "hf_compat"):
        raise ValueError(
            f"patch_yoso: mask_mode is {mask_mode!r}, expected 'strict' or 'hf_compat'"
        )
    modules = _modeling_modules()
    if not modules:
        raise ImportError(
            "patch_yoso: this transformers has no YOSO model, expected one of " + ", ".join(_PLACES)
        )
    for module in modules:
        attention = module.YosoSelfAttention
        _before.setdefault(module, (module.lsh_cumulation, attention.forward))
        # With a kernel there, a model to come does not fetch another one.
        module.lsh_cumulation = hub_kernel
        attention.forward = _strict_forward if mask_mode == "strict" else _hf_compat_forward


def unpatch_yoso() -> None:
    """Undoes `patch_yoso`; does nothing where there is nothing to undo."""
    while _before:
        module, (kernel, forward) = _before.popitem()
        module.lsh_cumulation = kernel
        module.YosoSelfAttention.forward = forward


def _modeling_modules() -> list[Any]:
    modules: list[Any] = []
    for name in _PLACES:
        try:
            modules.append(importlib.import_module(name))
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
    return modules


def _strict_forward(
    self: Any,
    hidden_states: Tensor,
    attention_mask: Optional[Tensor] = None,
    output_attentions: bool = False,
) -> tuple[Tensor, ...]:
    if output_attentions:
        raise ValueError(
            "YosoSelfAttention: output_attentions is True, expected False: YOSO has no matrix of "
            "attention"
        )
    mask = padding_mask("YosoSelfAttention", attention_mask, *hidden_states.shape[:2])
    context = _context(self, hidden_states, mask, mask)
    if self.use_conv and mask is not None:  # a filter reaches beyond the last real token
        context = context.masked_fill(~mask[:, :, None], 0)
    return (context,)


def _hf_compat_forward(
    self: Any,
    hidden_states: Tensor,
    attention_mask: Optional[Tensor] = None,
    output_attentions: bool = False,
) -> tuple[Tensor, ...]:
    # The model hands over 0 and 1, the attention reads 0 and -10000: both of the first are real.
    mask = None if attention_mask is None else (1 + attention_mask / 10000).int() != 0
    context = _context(self, hidden_states, mask, attention_mask)
    return (context, context) if output_attentions else (context,)


def _context(
    self: Any, hidden_states: Tensor, mask: Optional[Tensor], conv_mask: Optional[Tensor]
) -> Tensor:
    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (self.num_attention_heads, self.attention_head_size))

    query, key, value = (heads(f(hidden_states)) for f in (self.query, self.key, self.value))
    context = _attention(self, query, key, value, mask)
    if self.use_conv:
        rows = value if conv_mask is None else value * conv_mask[:, :, None, None]
        rows = rows.transpose(1, 2)
        if is_convolution_avoided(rows):
            convolved = convolve_tokens(rows, self.conv.weight[:, 0, :, 0])
        else:
            convolved = self.conv(rows)
        context = context + convolved.transpose(1, 2)
    return context.flatten(-2)


def _attention(
    self: Any, query: Tensor, key: Tensor, value: Tensor, mask: Optional[Tensor]
) -> Tensor:
    shared = dict(mask=mask, code_bits=self.hash_code_len, layout="bnhd")
    if self.use_expectation:
        return yoso.attention(query, key, value, mode="expected", **shared)
    shared.update(
        num_hashes=self.num_hash, projection="hadamard" if self.use_fast_hash else "gaussian"
    )
    if self.lsh_backward or not torch.is_grad_enabled():
        return yoso.attention(query, key, value, mode="sampled", **shared)
    # Values of the sampled sums with the gradients of the expected ones.
    shared.update(normalize_output=False)
    sampled = yoso.attention(
        query.detach(), key.detach(), value.detach(), mode="sampled", **shared
    )
    expected = yoso.attention(query, key, value, mode="expected", **shared)
    return torch.nn.functional.normalize(sampled + (expected - expected.detach()), dim=-1)
