"""Tests that the operator's page lists every bound of the native gRPC server with its value and its reason."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

from ferserve_server.http2 import limits

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "exposure.md"


def _value(name: str, value: object) -> str:
    if isinstance(value, tuple):
        return f"{value[0]:,}, then {value[1]:,}/s"
    assert isinstance(value, int | float)
    if name.endswith("_BYTES"):
        for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if value % size == 0:
                return f"{value / size:g} {unit}"
    if name.endswith("_S") and not name.endswith("PER_S"):
        return f"{value:g} s" if value >= 1 else f"{value * 1000:g} ms"
    return f"{value:,g}"


def table() -> list[str]:
    """The rows of the page, from the constants and the texts behind them."""
    rows = ["| bound | value | meaning and reason |", "|---|---|---|"]
    body = ast.parse(Path(limits.__file__).read_text()).body
    for constant, text in pairwise(body):
        if isinstance(constant, ast.AnnAssign) and isinstance(constant.target, ast.Name):
            assert isinstance(text, ast.Expr)
            assert isinstance(text.value, ast.Constant)
            name = constant.target.id
            reason = " ".join(str(text.value.value).split())
            rows.append(f"| `{name}` | {_value(name, getattr(limits, name))} | {reason} |")
    return rows


def test_every_bound_is_on_the_operators_page() -> None:
    assert "\n".join(table()) in PAGE.read_text()


def test_every_constant_has_a_reason() -> None:
    names = [name for name in vars(limits) if name.isupper() and name != "TYPE_CHECKING"]
    assert len(table()) == len(names) + 2
