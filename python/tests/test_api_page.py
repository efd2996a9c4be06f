"""docs/api.md is what the docstrings say, and they say what a user must know."""

# SPDX-License-Identifier: Apache-2.0
import ast
import re
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(FOLDER / "api_page.py"))
ENTRIES = dict(
    re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", SCRIPT["page"](), re.MULTILINE | re.DOTALL)
)


def test_the_page_is_up_to_date():
    """Else: python python/api_page.py > docs/api.md"""
    assert SCRIPT["page"]() == (FOLDER.parent / "docs" / "api.md").read_text()


def exported(module):
    """__all__ of a package's sources."""
    path = FOLDER.joinpath(*module.split("."), "__init__.py")
    body = ast.parse(path.read_text()).body if path.is_file() else []
    assigned = [node for node in body if isinstance(node, ast.Assign)]
    return [name for x in assigned if ast.unparse(x.targets[0]) == "__all__"
            for name in ast.literal_eval(x.value)]  # fmt: skip


@pytest.mark.parametrize("module", SCRIPT["PAGES"])
def test_the_page_has_all_that_the_package_exports(module):
    names = {f"{module}.{name}" for name in exported(module)}
    assert names <= ENTRIES.keys() | SCRIPT["PAGES"].keys()
    assert any(entry.startswith(f"{module}.") for entry in ENTRIES)


# Options have no errors of their own, and unpatch_yoso cannot fail.
@pytest.mark.parametrize("name", ENTRIES.keys() - {"yoso.AttentionOptions"})
def test_every_argument_is_described_and_every_error_named(name):
    entry = ENTRIES[name]
    text, described = re.search(r"```python\n(.*?)```(.*)", entry, re.DOTALL).groups()
    for argument in re.findall(r"^    \**(\w+):", text, re.MULTILINE):
        assert f"- `{argument}`: " in described, argument
    if not name.endswith("unpatch_yoso"):
        assert re.search(r"\*\*Raises\*\*\n\n- `\w+(Error|Exception)`", described)
    if " -> Tensor" in text or " -> list[Tensor]" in text:
        assert re.search(r"\*\*Returns\*\* .*\[[BGHN]\w*, |\*\*Returns\*\* The shape of", described)
