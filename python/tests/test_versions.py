"""The oldest versions that the package says it takes are the ones that its parts are made for."""

# SPDX-License-Identifier: Apache-2.0
import ast
import re
from pathlib import Path

import pytest
from yoso.integrations import hub

FOLDER = Path(__file__).parents[1]
PROJECT = (FOLDER / "pyproject.toml").read_text()
SOURCES = sorted(FOLDER.rglob("*.py"))


def stated(pattern):
    """The one version that a line of pyproject.toml names."""
    (version,) = re.findall(f"^{pattern}$", PROJECT, re.MULTILINE)
    return version


def test_the_oldest_python_is_the_same_everywhere():
    oldest = stated(r'requires-python = ">=(3\.\d+)"')
    assert stated(r'python_version = "(3\.\d+)"') == oldest  # of mypy, which reads the package as that
    assert stated(r'wheel\.py-api = "cp(3\d+)"') == oldest.replace(".", "")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_sources_are_in_the_language_of_the_oldest_python(path):
    major, minor = stated(r'requires-python = ">=(3\.\d+)"').split(".")
    ast.parse(path.read_text(), feature_version=(int(major), int(minor)))


def test_the_oldest_torch_is_the_same_everywhere():
    """It is also the one that these tests run with: what is newer, CI's wheel runs with."""
    (oldest,) = set(re.findall(r'"torch>=([\d.]+)"', PROJECT))
    assert hub._STABLE_ABI == oldest.replace(".", "")
    requirements = (FOLDER / "tests" / "requirements.txt").read_text()
    assert f"torch=={oldest}.0\n" in requirements
