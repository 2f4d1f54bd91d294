"""Tests that the page of the protocol suites lists the known deviations that the tests mark."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
SUITES = ("rfc9113_frames", "rfc9113_streams", "rfc9113_requests", "rfc7541", "grpc_protocol")


@pytest.mark.parametrize("suite", SUITES)
def test_every_known_deviation_is_on_the_page(suite: str) -> None:
    rows = PAGE.read_text().splitlines()
    for server, reasons in importlib.import_module(f"protocol.test_{suite}").DEVIATIONS.items():
        for reason, rules in reasons.items():
            assert f"| {server} | {reason} | {'; '.join(rules)} |" in rows


def test_no_other_failure_is_on_the_page() -> None:
    assert "| fails |" not in PAGE.read_text()
