"""The library of operators: the one that is loaded already, or else the one beside this file."""

# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import torch

if not hasattr(torch.ops.yoso, "bucket_attention_grad"):
    torch.ops.load_library(Path(__file__).with_name("libyoso_torch.so"))

ops = torch.ops.yoso
