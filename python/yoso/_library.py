"""Loads the library of operators: the one of this package, or another build of it.

The environment variable YOSO_LIBRARY names another one, for work on the sources:
  YOSO_LIBRARY=build/release/libyoso_torch.so PYTHONPATH=python python ...
"""

# SPDX-License-Identifier: Apache-2.0
import os
import pathlib

import torch


def load() -> None:
    library = os.environ.get("YOSO_LIBRARY") or pathlib.Path(__file__).with_name("libyoso_torch.so")
    path = pathlib.Path(library).resolve()
    if not path.is_file():
        raise ImportError(
            f"yoso: {path} is not there, expected the library of operators: install the package "
            "with pip, or name a build of it in YOSO_LIBRARY"
        )
    torch.ops.load_library(str(path))
