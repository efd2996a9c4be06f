"""Loads the library of torch operators into Python and compares sampled with expected attention.

  python tests/load_library.py build/release/libyoso_torch.so
"""
# SPDX-License-Identifier: Apache-2.0
import math
import sys

import torch

torch.ops.load_library(sys.argv[1])
yoso = torch.ops.yoso

tokens, heads, width, hashes, bits = 100, 2, 16, 2000, 4
devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
for device in devices:
    torch.manual_seed(1)
    x = torch.nn.functional.normalize(torch.randn(1, tokens, heads, width), dim=-1).to(device)
    values = torch.randn(1, tokens, heads, width).to(device)

    codes = yoso.hash(x, hashes, bits, 7, "gaussian")
    sampled = yoso.bucket_attention(codes, codes, values, bits)
    expected = yoso.expected_attention(x, x, None, None, values, float(bits))

    # The definition: p = (1 - acos(x.y) / pi)^T.
    cosines = torch.einsum("bihd,bjhd->bhij", x.double(), x.double()).clamp(-1, 1)
    weights = (1 - cosines.acos() / math.pi) ** bits
    definition = torch.einsum("bhij,bjhd->bihd", weights, values.double())
    # A token meets itself at cosine 1 - width * eps or so, where acos is the square root of that.
    angle = math.sqrt(2 * width * torch.finfo(torch.float32).eps)
    rounding = bits / math.pi * angle * values.abs().max().item()
    torch.testing.assert_close(expected.double(), definition, rtol=1e-4, atol=rounding)

    # Six deviations of a mean of Bernoulli variables; pairs are dependent only through their hashes.
    variance = torch.einsum("bhij,bjhd->bihd", (weights * (1 - weights)).sqrt(), values.double().abs())
    bound = 6 * variance / math.sqrt(hashes)
    assert ((sampled.double() - definition).abs() <= bound + rounding).all(), f"sampled is off on {device}"

try:
    yoso.hash(torch.ones(1, 1, 1, 1), hashes, 17, 7, "gaussian")
except RuntimeError as error:
    assert "17" in str(error), error
else:
    raise AssertionError("code_bits = 17 was taken")
print(f"{sys.argv[1]}: operators agree with the definition in Python on {', '.join(devices)}, "
      f"torch {torch.__version__}")
