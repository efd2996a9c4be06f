"""Writes the kernel of yoso.integrations.hub_kernel as a folder that the `kernels` package loads.

    python -m yoso.integrations.hub FOLDER
    LOCAL_KERNELS=kernels-community/yoso=FOLDER python my_program.py

The folder holds a copy of this installation's library of operators and needs nothing of yoso:

    FOLDER/build/torch-stable-abi211-cu130-x86_64-linux/{__init__.py,_ops.py,libyoso_torch.so,...}
"""

# SPDX-License-Identifier: Apache-2.0
import argparse
import hashlib
import json
import platform
import shutil
from pathlib import Path

import torch

from yoso.integrations import hub_kernel

# The oldest torch whose stable ABI the library of operators needs.
_STABLE_ABI = "211"
_LIBRARY = "libyoso_torch.so"


def write_hub_kernel(folder: Path) -> list[Path]:
    """Writes the kernel for this machine under `folder`, and returns the variants' folders.

    There is one for a torch of the CPU and, if this torch is one of CUDA, one for its CUDA version:
    `kernels` chooses by what torch was built for. Files that are there are overwritten.

    Args:
        folder: where to write; made if it is not there.

    Returns:
        The folders, `folder`/build/VARIANT.

    Raises:
        OSError: a file cannot be written.
    """
    library = next(
        path for path in map(Path, torch.ops.loaded_libraries) if path.name == _LIBRARY
    )
    backends = {"cpu": "cpu"}
    if torch.version.cuda is not None:
        backends["cuda"] = "cu" + torch.version.cuda.replace(".", "")
    variants = []
    for backend, tag in backends.items():
        name = f"torch-stable-abi{_STABLE_ABI}-{tag}-{platform.machine()}-linux"
        variants.append(_write_variant(folder / "build" / name, backend, library))
    # A wheel that carries libraries has them in a folder beside the package, and its library of
    # operators looks for them there: the same place seen from a variant.
    carried = library.parent.with_name("yoso.libs")
    if carried.is_dir():
        shutil.copytree(carried, folder / "build" / carried.name, dirs_exist_ok=True)
    return variants


def _write_variant(variant: Path, backend: str, library: Path) -> Path:
    variant.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(library, variant / _LIBRARY)
    for source in Path(hub_kernel.__file__).parent.glob("*.py"):
        shutil.copyfile(source, variant / source.name)
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
    metadata = {
        "id": f"_yoso_{backend}_{digest[:12]}",
        "name": "yoso",
        "version": 1,
        "license": "Apache-2.0",
        "python-depends": [],
        "backend": {"type": backend},
    }
    (variant / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")
    return variant


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m yoso.integrations.hub", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, help="where to write; made if it is not there")
    for variant in write_hub_kernel(parser.parse_args().folder):
        print(variant)


if __name__ == "__main__":
    _main()
