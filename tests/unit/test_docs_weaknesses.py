"""Tests that every class of weakness in docs/weaknesses.md has tests, and that each is there (faults, item 30)."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    line
    for line in (ROOT / "docs" / "weaknesses.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| class |")
]


@cache
def names_of(path: Path) -> frozenset[str]:
    """The names of a file's tests."""
    functions = (each for each in ast.walk(ast.parse(path.read_text())))
    return frozenset(each.name for each in functions if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_a_class_of_weakness_names_tests_that_exist(row: str) -> None:
    named = re.findall(r"`([a-z_]+/test_[a-z0-9_]+\.py)::(test_[a-z0-9_]+)`", row)
    assert named
    for path, name in named:
        assert name in names_of(ROOT / "tests" / path), f"{path}::{name}"


def test_the_classes_that_are_known_are_all_there() -> None:
    classes = " ".join(row.split("|")[1] for row in ROWS)
    for known in (
        "traversal",
        "another path",
        "compressed",
        "integer",
        "memory",
        "threads and descriptors",
        "disk",
    ):
        assert known in classes
    for known in ("uncaught", "output lists", "smuggling", "deserialisation", "SSRF", "log injection"):
        assert known in classes
