"""Modules of YOSO attention, with the parameters that torch.nn gives theirs."""

# SPDX-License-Identifier: Apache-2.0
import math
from typing import Any, Callable, Optional, Union

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import Unpack

from yoso._checks import both_sides, check_tensors, require, require_later
from yoso._convolution import convolve_tokens
from yoso.functional import AttentionOptions, attention


class Attention(nn.Module):
    """Multi-head YOSO attention on [B, N, E], E = embed_dim.

        out = W_out concat_h(attention(q_h, k_h, v_h) + conv_h(v_h)) + b_out

    with q, k and v the projections of query and key, as in torch.nn.MultiheadAttention, whose names
    and shapes the parameters have: its state dict loads. With conv_width w this is YOSO-C: to the
    normalised output of a head comes the convolution of its values over the tokens, one filter of w
    taps a head, `conv_weight` [H, w]; without it conv_h is 0.

    Args:
        embed_dim: E, a multiple of num_heads; E / H from 1 to 256.
        num_heads: H, at least 1.
        conv_width: w, an odd number; 0: no convolution.
        bias: of the projections.
        device: of the parameters.
        dtype: of the parameters.
        options: those of `yoso.attention`: num_hashes, code_bits, mode, gradient, projection, seed,
            normalize_output, backward_hashes. A forward checks them.

    Raises:
        ValueError: embed_dim, num_heads or conv_width is out of its range.
        TypeError: an option is not known.
    """

    batch_first = True

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        conv_width: int = 0,
        bias: bool = True,
        device: Union[torch.device, str, None] = None,
        dtype: Optional[torch.dtype] = None,
        **options: Unpack[AttentionOptions],
    ) -> None:
        super().__init__()
        if num_heads < 1:
            raise ValueError(f"yoso.nn.Attention: num_heads is {num_heads}, expected at least 1")
        if embed_dim < 1 or embed_dim % num_heads != 0:
            raise ValueError(
                f"yoso.nn.Attention: embed_dim is {embed_dim}, expected a multiple of num_heads = "
                f"{num_heads}"
            )
        if conv_width < 0 or (conv_width > 0 and conv_width % 2 == 0):
            raise ValueError(
                f"yoso.nn.Attention: conv_width is {conv_width}, expected 0 or an odd number"
            )
        unknown = options.keys() - AttentionOptions.__annotations__.keys()
        if unknown:
            raise TypeError(
                f"yoso.nn.Attention: got the option {sorted(unknown)[0]!r}, expected one of "
                f"{', '.join(AttentionOptions.__annotations__)}"
            )
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.options = options
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim, **place))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * embed_dim, **place)) if bias else None
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias, **place)
        self.conv_weight = (
            nn.Parameter(torch.empty(num_heads, conv_width, **place)) if conv_width else None
        )
        self._reset_other_parameters()

    def reset_parameters(self) -> None:
        """As torch.nn.MultiheadAttention and torch's convolutions begin."""
        self.out_proj.reset_parameters()
        self._reset_other_parameters()

    # Those that do not draw themselves when they are made.
    def _reset_other_parameters(self) -> None:
        nn.init.xavier_uniform_(self.in_proj_weight)
        if self.in_proj_bias is not None:
            nn.init.zeros_(self.in_proj_bias)
            nn.init.zeros_(self.out_proj.bias)
        if self.conv_weight is not None:
            bound = 1 / math.sqrt(self.conv_weight.shape[1])
            nn.init.uniform_(self.conv_weight, -bound, bound)

    def extra_repr(self) -> str:
        """Sizes and options."""
        width = 0 if self.conv_weight is None else self.conv_weight.shape[1]
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{self.embed_dim}, {self.num_heads}, conv_width={width}{options}"

    def forward(
        self,
        query: Tensor,
        key: Optional[Tensor] = None,
        *,
        mask: Optional[Tensor] = None,
        query_mask: Optional[Tensor] = None,
        key_mask: Optional[Tensor] = None,
    ) -> Tensor:
        """Attention of query to key, or to itself. Values come from key.

        Args:
            query: [B, Nq, E].
            key: [B, Nk, E]; Nk = Nq with conv_width. None: query.
            mask: bool [B, N], True = real token, for both sides. Masked rows of query come out as
                the bias of the last projection.
            query_mask: bool [B, Nq], for the queries alone.
            key_mask: bool [B, Nk], for the keys alone.

        Returns:
            [B, Nq, E].

        Raises:
            ValueError: query or key is not [B, N, E]; `mask` is not alone; Nk is not Nq with
                conv_width.
            TypeError: query, key or a mask is no tensor.
            RuntimeError: as `yoso.attention`.
        """
        self._check("query", query)
        if key is not None:
            self._check("key", key)
        query_mask, key_mask = both_sides("yoso.nn.Attention", "mask", mask, query_mask, key_mask)
        q, k, v = self._projections(query, key)
        out = attention(q, k, v, query_mask=query_mask, key_mask=key_mask, **self.options)
        if self.conv_weight is not None:
            out = out + self._convolution(q, v, query_mask, key_mask)
        out = out.transpose(1, 2).flatten(2)
        return self.out_proj(out)

    def _check(self, name: str, x: Tensor) -> None:
        check_tensors("yoso.nn.Attention", (name, x))
        if x.dim() != 3 or x.shape[2] != self.embed_dim:
            raise ValueError(
                f"yoso.nn.Attention: {name} is {list(x.shape)}, expected [B, N, {self.embed_dim}]"
            )

    def _projections(self, query: Tensor, key: Optional[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        heads = (self.num_heads, self.embed_dim // self.num_heads)
        if key is None:
            rows = functional.linear(query, self.in_proj_weight, self.in_proj_bias)
            q, k, v = rows.unflatten(-1, (3, *heads)).permute(2, 0, 3, 1, 4)
            return q, k, v
        sizes = [self.embed_dim, 2 * self.embed_dim]
        weights = self.in_proj_weight.split(sizes)
        biases = (None, None) if self.in_proj_bias is None else self.in_proj_bias.split(sizes)
        q = functional.linear(query, weights[0], biases[0]).unflatten(-1, heads).transpose(1, 2)
        rows = functional.linear(key, weights[1], biases[1])
        k, v = rows.unflatten(-1, (2, *heads)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def _convolution(
        self,
        query: Tensor,
        value: Tensor,
        query_mask: Optional[Tensor],
        key_mask: Optional[Tensor],
    ) -> Tensor:
        assert self.conv_weight is not None
        if query.shape[2] != value.shape[2]:
            raise ValueError(
                f"yoso.nn.Attention: key has {value.shape[2]} tokens, expected those of query, "
                f"{query.shape[2]}, with conv_width"
            )
        if key_mask is not None:
            value = value.masked_fill(~key_mask[:, None, :, None], 0)
        out = convolve_tokens(value, self.conv_weight)
        return out if query_mask is None else out.masked_fill(~query_mask[:, None, :, None], 0)


class EncoderLayer(nn.Module):
    """A replacement of torch.nn.TransformerEncoderLayer with YOSO attention.

        x = norm1(src + attention(src)),    out = norm2(x + linear2(activation(linear1(x))))

    or with norm_first x = src + attention(norm1(src)), out = x + feed_forward(norm2(x)). It takes the
    same arguments, has the same parameters (its state dict loads) and works inside
    torch.nn.TransformerEncoder. The differences: attention weights have no dropout, only the
    outputs of attention and feed-forward have; `src_mask` and `is_causal` are refused, since every
    token sees every other. The sequence comes first unless batch_first=True, as in torch.

    Args:
        d_model: E, a multiple of nhead.
        nhead: H, at least 1.
        dim_feedforward: width of the hidden layer.
        dropout: probability, from 0 to 1.
        activation: "relu", "gelu" or a function.
        layer_norm_eps: of both norms.
        batch_first: [B, N, E] instead of [N, B, E].
        norm_first: norms before attention and feed-forward instead of after.
        bias: of linear layers and norms.
        device: of the parameters.
        dtype: of the parameters.
        conv_width: YOSO-C, see `Attention`.
        options: those of `yoso.attention`, see `Attention`.

    Raises:
        ValueError: activation is not known; d_model, nhead, conv_width or dropout is out of its
            range.
        TypeError: an option is not known.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Union[str, Callable[[Tensor], Tensor]] = functional.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Union[torch.device, str, None] = None,
        dtype: Optional[torch.dtype] = None,
        *,
        conv_width: int = 0,
        **options: Unpack[AttentionOptions],
    ) -> None:
        super().__init__()
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.batch_first = batch_first
        self.norm_first = norm_first
        self.activation = _activation(activation)
        self.self_attn = Attention(
            d_model, nhead, conv_width=conv_width, bias=bias, **place, **options
        )
        self.self_attn.batch_first = batch_first  # where torch.nn.TransformerEncoder looks for it
        self.linear1 = nn.Linear(d_model, dim_feedforward, bias=bias, **place)
        self.linear2 = nn.Linear(dim_feedforward, d_model, bias=bias, **place)
        self.norm1 = nn.LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **place)
        self.norm2 = nn.LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **place)
        self.dropout = nn.Dropout(dropout)
        self.dropout1 = nn.Dropout(dropout)
        self.dropout2 = nn.Dropout(dropout)

    def forward(
        self,
        src: Tensor,
        src_mask: Optional[Tensor] = None,
        src_key_padding_mask: Optional[Tensor] = None,
        is_causal: bool = False,
    ) -> Tensor:
        """The layer's output.

        Args:
            src: [N, B, E], or [B, N, E] with batch_first.
            src_mask: refused.
            src_key_padding_mask: [B, N] as torch has it: True, or minus infinity, is padding; bool
                or a floating type.
            is_causal: refused.

        Returns:
            The shape of src.

        Raises:
            ValueError: src_mask or is_causal is given; src has another rank or width; the padding
                mask has other numbers than 0 and minus infinity (in a compiled graph a RuntimeError
                when it runs, on a GPU a failed assertion of the device: nothing waits for it).
            TypeError: src or the padding mask is no tensor, or the mask is of integers.
            RuntimeError: as `yoso.attention`.
        """
        if src_mask is not None or is_causal:
            raise ValueError(
                "yoso.nn.EncoderLayer: src_mask or is_causal is given, expected only "
                "src_key_padding_mask: each token sees all real tokens; use "
                "torch.nn.TransformerEncoderLayer for masks of pairs"
            )
        check_tensors("yoso.nn.EncoderLayer", ("src", src))
        width = self.linear1.in_features
        if src.dim() != 3 or src.shape[2] != width:
            order = "B, N" if self.batch_first else "N, B"
            raise ValueError(
                f"yoso.nn.EncoderLayer: src is {list(src.shape)}, expected [{order}, {width}]"
            )
        x = src if self.batch_first else src.transpose(0, 1)
        mask = None if src_key_padding_mask is None else _real(src_key_padding_mask)
        if self.norm_first:
            x = x + self._attend(self.norm1(x), mask)
            x = x + self._feed_forward(self.norm2(x))
        else:
            x = self.norm1(x + self._attend(x, mask))
            x = self.norm2(x + self._feed_forward(x))
        return x if self.batch_first else x.transpose(0, 1)

    def _attend(self, x: Tensor, mask: Optional[Tensor]) -> Tensor:
        return self.dropout1(self.self_attn(x, mask=mask))

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(self.activation(self.linear1(x)))
        return self.dropout2(self.linear2(hidden))


def _activation(activation: Union[str, Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    if callable(activation):
        return activation
    if activation in ("relu", "gelu"):
        return functional.relu if activation == "relu" else functional.gelu
    raise ValueError(
        f"yoso.nn.EncoderLayer: activation is {activation!r}, expected 'relu', 'gelu' or a function"
    )


def _real(padding: Tensor) -> Tensor:
    """The real tokens of a mask in torch's convention."""
    check_tensors("yoso.nn.EncoderLayer", ("src_key_padding_mask", padding))
    if padding.dtype == torch.bool:
        return ~padding
    if not padding.is_floating_point():
        raise TypeError(
            f"yoso.nn.EncoderLayer: src_key_padding_mask is {padding.dtype}, expected torch.bool or "
            "a floating type"
        )
    # torch.nn.TransformerEncoder makes floats of a bool mask. Other floats would be biases of
    # attention scores, which YOSO has none of.
    check = require if padding.device.type == "cpu" else require_later
    check(
        (padding == 0) | (padding == -math.inf),
        "yoso.nn.EncoderLayer: src_key_padding_mask has other numbers than 0 and minus infinity, "
        "expected a padding mask",
    )
    return padding == 0
