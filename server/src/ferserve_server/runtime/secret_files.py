"""Tells whether files have changed, and whether others can read them."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, TypeAlias

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

log = structlog.get_logger(__name__)

FileState: TypeAlias = "tuple[tuple[int, int, int, int] | None, ...]"
"""Modification and change time in ns, size in bytes and inode of each file; None for one that is not there."""


def state_of(paths: Iterable[Path]) -> FileState:
    """Returns what differs when one of the files has changed, whatever its time says."""
    return tuple(_state_of_one(path) for path in paths)


def _state_of_one(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


def warn_if_exposed(path: Path, what: str) -> None:
    """Logs a warning if users outside the file's group can read it.

    The group may: a container's secrets are mounted for the group of its user.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & stat.S_IROTH:
        log.warning(
            "every user of this machine can read a secret: take the permission away, as with chmod o-rwx",
            secret=what,
            file=str(path),
            mode=oct(stat.S_IMODE(mode)),
        )
