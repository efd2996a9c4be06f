"""YOSO attention for PyTorch: attention by hash collisions, linear in the length."""

# SPDX-License-Identifier: Apache-2.0
from yoso import nn
from yoso.functional import attention, bucket_attention, expected_attention, hash

__version__ = "0.1.0"
__all__ = ["attention", "bucket_attention", "expected_attention", "hash", "nn"]
