"""Tests the plan and the tables of `make chaos`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from chaos import soak, tables
from chaos.__main__ import PARTS
from chaos.callers import Callers

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "benchmarks" / "results" / "chaos.json"


def test_the_parts_take_all_of_the_time() -> None:
    assert sum(share for _, share in PARTS.values()) == pytest.approx(1)


def test_the_page_has_the_tables_of_the_report() -> None:
    if not REPORT.exists():
        pytest.skip("make chaos has not been run yet")
    report = json.loads(REPORT.read_text())
    page = tables.PAGE.read_text()
    assert tables.filled(page, report) == page


def test_a_part_that_did_not_end_is_reported() -> None:
    facts = {"date": "", "core_count": 2, "machine": "", "tensorflow": "", "seconds": 1, "other_work_share": 0}
    assert "**soak did not end:** OSError()" in tables.chaos_tables({**facts, "soak": {"failed": "OSError()"}})


def test_growth_differs_from_noise_by_medians() -> None:
    assert soak.first_and_last([1, 1, 9, 1, 5, 5, 6, 6]) == {"first": 1, "last": 6, "max": 9}


def test_outcomes_are_counted_by_caller() -> None:
    callers = Callers({"a": lambda: _opened("OK"), "b": lambda: _opened("reset")})
    with callers:
        while not all(callers.outcomes.values()):
            pass
    assert set(callers.summary()["a"]) == {"OK"}
    assert Counter(callers.summary()["b"])["reset"] >= 1


class _opened:  # noqa: N801 - stands for a function
    def __init__(self, outcome: str) -> None:
        self._outcome = outcome

    def __enter__(self) -> object:
        return lambda: self._outcome

    def __exit__(self, *_: object) -> None:
        pass
