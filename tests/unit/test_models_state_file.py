"""Tests that aliases set at run time survive in a file, and that a broken file is harmless."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import structlog

from ferserve_server.domain.servable import ServableId
from ferserve_server.models.state_file import LifecycleState, Rejection, read_state, write_state

if TYPE_CHECKING:
    from pathlib import Path

ALIASES = {"fer-nano": {"stable": 3, "canary": 4}, "wide": {"stable": 1}}
REJECTED = {ServableId("fer-nano", 5): Rejection("5e0c" * 16, "CANARY_ROLLED_BACK", "Too slow.")}


def _rejecting(**changes: object) -> str:
    entry = {"model": "m", "version": 1, "manifest_sha256": "aa", "reason": "R", "message": "M"} | changes
    return json.dumps({"format_version": 1, "aliases": {}, "rejected": [entry]})


STATE = LifecycleState(ALIASES, REJECTED)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_state(path, LifecycleState())
    write_state(path, STATE)
    assert read_state(path) == STATE
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


def test_a_file_of_a_server_that_rolled_nothing_back_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"format_version": 1, "aliases": ALIASES}))
    assert read_state(path) == LifecycleState(ALIASES)


def test_no_file_holds_no_aliases_and_is_no_fault(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        assert read_state(tmp_path / "none.json") == LifecycleState()
    assert not logs


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"aliases": {}}',
        '{"format_version": 2, "aliases": {}}',
        '{"format_version": 1, "aliases": []}',
        '{"format_version": 1, "aliases": {"m": 3}}',
        '{"format_version": 1, "aliases": {"m": {"stable": "x"}}}',
        '{"format_version": 1, "aliases": {"m": {"stable": -1}}}',
        '{"format_version": 1, "aliases": {"../m": {"stable": 1}}}',
        '{"format_version": 1, "aliases": {"m": {"7": 1}}}',
        '{"format_version": 1, "aliases": {}, "rejected": {"m": 1}}',
        '{"format_version": 1, "aliases": {}, "rejected": [{"model": "m", "version": 1}]}',
        _rejecting(version=0),
        _rejecting(message=3),
        "[" * 100_000,
    ],
)
def test_a_broken_file_is_reported_and_ignored(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    with structlog.testing.capture_logs() as logs:
        assert read_state(path) == LifecycleState()
    assert [(each["log_level"], each["path"]) for each in logs] == [("error", str(path))]


def test_a_folder_in_its_place_is_reported_and_ignored(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        assert read_state(tmp_path) == LifecycleState()
    assert len(logs) == 1


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_state(path, STATE)
    with pytest.raises(TypeError):
        write_state(path, LifecycleState({"m": {"stable": object()}}))  # type: ignore[dict-item]  # what no JSON holds
    assert json.loads(path.read_text())["aliases"] == ALIASES
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]
    with pytest.raises(OSError, match="none"):
        write_state(tmp_path / "none" / "state.json", STATE)
