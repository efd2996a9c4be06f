"""YOSO attention in Hugging Face transformers.

`register` offers it to every encoder as an attn_implementation. `patch_yoso` makes transformers' own
YOSO model compute what its paper says. See docs/transformers.md.
"""

# SPDX-License-Identifier: Apache-2.0
from yoso.integrations.transformers.implementation import register
from yoso.integrations.transformers.yoso_model import patch_yoso, unpatch_yoso

__all__ = ["patch_yoso", "register", "unpatch_yoso"]
