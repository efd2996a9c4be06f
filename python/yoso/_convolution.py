"""The depthwise convolution of YOSO-C: values over tokens, with one filter a head."""

# SPDX-License-Identifier: Apache-2.0
import torch
from torch import Tensor
from torch.nn import functional


def convolve_tokens(value: Tensor, filters: Tensor) -> Tensor:
    """out[b, h, n, d] = sum_k filters[h, k] value[b, h, n + k - w // 2, d], with 0 beyond the ends.

    What is not finite may reach 64 tokens further than the filter does.

    Args:
        value: [B, H, N, D].
        filters: [H, w], w odd.

    Returns:
        [B, H, N, D] of the type of value.

    Raises:
        ValueError: w is even.
    """
    heads, width = filters.shape
    if width % 2 == 0:
        raise ValueError(f"yoso: a filter has {width} taps, expected an odd number")
    filters = filters.to(value.dtype)
    if _are_blocks_faster(value, width):
        return _convolve_by_blocks(value, filters)
    # Without tokens a convolution is an error.
    tokens = value.shape[2]
    if tokens == 0 or is_convolution_avoided(value):
        wide = torch.promote_types(value.dtype, torch.float32)
        padded = functional.pad(value, (0, 0, width // 2, width // 2)).to(wide)
        taps = filters.to(wide)[:, :, None, None]
        out = taps[:, 0] * padded[:, :, :tokens]
        for k in range(1, width):
            out = out + taps[:, k] * padded[:, :, k : k + tokens]
        return out.to(value.dtype)
    return functional.conv2d(value, filters[:, None, :, None], padding=(width // 2, 0), groups=heads)


_BLOCK = 64  # tokens


def _are_blocks_faster(value: Tensor, taps: int) -> bool:
    """Whether the filter is neither short nor long, and this is eager and more than launches.

    The times that decide are in the messages of commits da5b9a7 (GPU) and 08a2d3d (CPU).
    """
    if torch.compiler.is_compiling() or not 9 <= taps <= 4 * _BLOCK:
        return False
    return value.numel() >= (1 << 22 if value.is_cuda else 1)


def _convolve_by_blocks(value: Tensor, filters: Tensor) -> Tensor:
    """convolve_tokens as products of matrices (yoso/torch/convolution.h): faster with many taps.

    The filter, shifted by one for every row of a block, times the block's tokens and those around.
    """
    batch, heads, tokens, columns = value.shape
    width, blocks = filters.shape[1], (tokens + _BLOCK - 1) // _BLOCK
    size, pitch = _BLOCK + width - 1, _BLOCK + width
    # Rows of one more than `size`: each begins one further to the right than the one before.
    band = functional.pad(filters, (0, _BLOCK))[:, None].expand(heads, _BLOCK, pitch)
    band = band.reshape(heads, _BLOCK * pitch)[:, : _BLOCK * size].view(heads, _BLOCK, size)
    after = blocks * _BLOCK - tokens + width // 2
    windows = functional.pad(value, (0, 0, width // 2, after)).unfold(2, size, _BLOCK)
    rows = windows.permute(1, 4, 0, 2, 3).reshape(heads, size, batch * blocks * columns)
    out = torch.bmm(band, rows).view(heads, _BLOCK, batch, blocks, columns)
    out = out.permute(2, 0, 3, 1, 4).reshape(batch, heads, blocks * _BLOCK, columns)
    return out[:, :, :tokens]


def is_convolution_avoided(value: Tensor) -> bool:
    """Whether this is compiled, or exported, for the CPU.

    Where a graph for the CPU has a convolution, Inductor lays all four-dimensional tensors out for
    it. The backward is then fixed to one length: each length is compiled anew, and torch 2.11 may
    take the backward of another one from its cache and fail. Sums of products it fuses, into less
    time than the convolution takes forward and backward together.
    """
    return value.is_cpu and torch.compiler.is_compiling()
