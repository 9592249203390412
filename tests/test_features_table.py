"""docs/features.md: each test that it names is there, and each plugin of the tree stands in it or is newer."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from deepgen.kernel import registry

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TEXT.splitlines()
    if line.startswith("|") and not re.match(r"\|---|\| (feature|defect) \|", line)
]
NEWER = {"f1", "pearson", "mse", "exact_match", "token_error_rate", "jsonl"}
"""Plugins that the original had nothing like."""


@cache
def names_in(file: str) -> set[str]:
    """The names of the tests in a file, as pytest collects them."""
    module = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in module.body if isinstance(node, functions) and node.name.startswith("test_")}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_test_is_there(row: list[str]) -> None:
    assert len(row) == 3, row
    feature, here, tests = row
    assert feature
    assert here
    named = re.findall(r"`([^`]+)`", tests)
    assert ", ".join(f"`{name}`" for name in named) == tests
    assert named
    for name in named:
        file, _, test = name.partition("::")
        assert test in names_in(file)


def test_no_test_is_named_for_a_file_that_is_not_run() -> None:
    for file in re.findall(r"`(tests/[^:`]+)::", TEXT):
        assert Path(file).name.startswith("test_")


def test_every_plugin_is_in_it() -> None:
    words = set(re.findall(r"\w+", TEXT))
    for path in (ROOT / "plugins").glob("*/*.py"):
        assert path.stem in words | NEWER | {"__init__"}


def test_the_defects_are_all_told_of() -> None:
    told = re.findall(r"^\| ([\d, ]+):", TEXT, flags=re.MULTILINE)
    numbers = {int(number) for group in told for number in group.split(",")}
    assert numbers == set(range(1, 32))


def test_what_is_out_is_out() -> None:
    out = re.findall(r"`(\w+)`", TEXT.partition("What is out:")[2].partition("\n\n")[0])
    assert len(out) == 7
    for kind in registry.KINDS:
        assert not registry.names(kind) & set(out)
