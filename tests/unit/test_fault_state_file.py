"""Tests saving decisions on disks that fail."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from ferserve_server.domain.servable import ServableId
from ferserve_server.models.state_file import LifecycleState, Rejection, StateFile, read_state, write_state

if TYPE_CHECKING:
    from pathlib import Path


STATE = LifecycleState({"fer-nano": {"stable": 3}}, {ServableId("fer-nano", 5): Rejection("ab" * 32, "R", "text")})


def test_a_file_that_cannot_be_replaced_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that a container mounts by itself: rename(2) says EBUSY."""
    path = tmp_path / "state.json"
    write_state(path, LifecycleState({"fer-nano": {"a-long-alias-that-is-gone-afterwards": 12345}}))
    inode = path.stat().st_ino

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(type(path), "replace", busy)
    write_state(path, STATE)
    assert path.stat().st_ino == inode
    assert read_state(path) == STATE
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_takes_nothing_is_reported_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "state.json"
    write_state(path, STATE)

    def full(*_: object) -> None:
        raise OSError(number, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        write_state(path, LifecycleState())
    assert read_state(path) == STATE


def test_what_another_server_wrote_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    mine, other = StateFile(path), StateFile(path)
    assert mine.read() == other.read() == LifecycleState()
    mine.write(STATE)
    mine.write(LifecycleState({"fer-nano": {"stable": 4}}))
    with pytest.raises(OSError, match="another server"):
        other.write(LifecycleState({"fer-nano": {"stable": 9}}))
    assert read_state(path).aliases == {"fer-nano": {"stable": 4}}
    other.read()
    other.write(LifecycleState({"fer-nano": {"stable": 9}}))
    assert read_state(path).aliases == {"fer-nano": {"stable": 9}}


def test_without_a_file_nothing_is_kept() -> None:
    state_file = StateFile(None)
    state_file.write(STATE)
    assert state_file.read() == LifecycleState()
