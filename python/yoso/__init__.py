"""YOSO attention for PyTorch: attention whose weights are hash collisions, linear in the length."""

# SPDX-License-Identifier: Apache-2.0
from yoso.functional import attention

__version__ = "0.1.0"
__all__ = ["attention"]
