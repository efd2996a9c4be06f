"""Writes docs/api.md: every public function and class of the package, from its docstring.

    python python/api_page.py > docs/api.md

Reads the sources without importing them, so that it needs nothing. Public is what a module defines
under a name without an underscore; of a class, its docstring and `forward`.
"""

# SPDX-License-Identifier: Apache-2.0
import ast
import re
from pathlib import Path
from typing import Iterator, Union

PACKAGE = Path(__file__).parent / "yoso"
PAGES = {  # how a user imports it: where it is defined
    "yoso": ["functional.py"],
    "yoso.nn": ["nn.py"],
    "yoso.integrations.transformers": [
        "integrations/transformers/implementation.py",
        "integrations/transformers/yoso_model.py",
    ],
    "yoso.integrations.hub": ["integrations/hub.py"],
    "yoso.integrations.hub_kernel": ["integrations/hub_kernel/__init__.py"],
}
INTRODUCTION = """# The Python package

Made of the docstrings by `python python/api_page.py > docs/api.md`; `python/tests/test_api_page.py` holds both together.
Guides: [tutorial.md](tutorial.md), [pytorch.md](pytorch.md), [transformers.md](transformers.md).
"""

Definition = Union[ast.FunctionDef, ast.ClassDef]


def page() -> str:
    return "\n".join([INTRODUCTION, *(line for name in PAGES for line in section(name))])


def section(module: str) -> Iterator[str]:
    trees = [ast.parse((PACKAGE / path).read_text()) for path in PAGES[module]]
    yield f"## {module}\n"
    yield markdown(ast.get_docstring(trees[0]) or "")
    for tree in trees:
        aliases = {
            node.targets[0].id: ast.unparse(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and ast.unparse(node.value).startswith("Literal[")
        }
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != "_":
                yield from entry(f"{module}.{node.name}", node, aliases)


def entry(name: str, node: Definition, aliases: dict[str, str]) -> Iterator[str]:
    text = re.sub(r"\w+", lambda word: aliases.get(word[0], word[0]), signature(name, node))
    yield f"### {name}\n\n```python\n{text}\n```\n"
    yield markdown(ast.get_docstring(node) or "")
    if isinstance(node, ast.ClassDef) and (forward := method(node, "forward")):
        yield from entry(f"{name}.forward", forward, aliases)


def method(node: ast.ClassDef, name: str) -> Union[ast.FunctionDef, None]:
    functions = (x for x in node.body if isinstance(x, ast.FunctionDef))
    return next((x for x in functions if x.name == name), None)


def signature(name: str, node: Definition) -> str:
    """One argument a line; of a class without a constructor, its fields."""
    function = method(node, "__init__") if isinstance(node, ast.ClassDef) else node
    if function is None:
        fields = [ast.unparse(x) for x in node.body if isinstance(x, ast.AnnAssign)]
        return "\n".join([f"class {name}:", *(f"    {field}" for field in fields)])
    a = function.args
    a.args = [x for x in a.args if x.arg != "self"]
    required = [None] * (len(a.args) - len(a.defaults))
    arguments = [*map(argument, a.args, [*required, *a.defaults])]
    if a.kwonlyargs:
        arguments += ["*", *map(argument, a.kwonlyargs, a.kw_defaults)]
    if a.kwarg is not None:
        arguments.append("**" + argument(a.kwarg, None))
    result = "" if node is not function else f" -> {ast.unparse(function.returns)}"
    lines = "".join(f"    {x},\n" for x in arguments)
    return f"{name}(\n{lines}){result}" if lines else f"{name}(){result}"


def argument(x: ast.arg, default: Union[ast.expr, None]) -> str:
    return ast.unparse(x) + ("" if default is None else f" = {ast.unparse(default)}")


def markdown(docstring: str) -> str:
    """Args, Returns and Raises as lists; all else is Markdown already."""
    out = []
    for block in docstring.split("\n\n"):
        head, *lines = block.split("\n")
        if head in ("Args:", "Raises:"):
            items = re.split(r"\n(?! )", "\n".join(line[4:] for line in lines))
            out.append(f"**{head[:-1]}**\n\n" + "\n".join(map(item, items)))
        elif head == "Returns:":
            out.append("**Returns** " + " ".join(line.strip() for line in lines))
        else:
            out.append(block)
    return "\n\n".join(out) + "\n"


def item(text: str) -> str:
    names, meaning = " ".join(text.split()).split(": ", 1)
    return "- " + ", ".join(f"`{name}`" for name in names.split(", ")) + f": {meaning}"


if __name__ == "__main__":
    print(page(), end="")
