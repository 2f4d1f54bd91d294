"""Defines what the tests of several servers share."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test of this folder."""
    for item in items:
        if "tests/scale/" in item.path.as_posix():
            item.add_marker(pytest.mark.scale)
