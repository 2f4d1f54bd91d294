"""Saves run-time decisions in a JSON file: aliases, and versions that were rolled back.

::

    {"format_version": 1,
     "aliases": {"fer-nano": {"stable": 3}},
     "rejected": [{"model": "fer-nano", "version": 4, "manifest_sha256": "5e0c...",
                  "reason": "CANARY_ROLLED_BACK", "message": "..."}]}
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import ServableId
from ferserve_server.models.aliases import parse_aliases

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

log = structlog.get_logger(__name__)

_FORMAT_VERSION: Final = 1

_NO_RENAMING: Final = frozenset({errno.EBUSY, errno.EXDEV, errno.EROFS, errno.EACCES, errno.EPERM})
"""Errors of a folder in which files cannot be replaced, because a container mounts the file alone."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Records why a version stays rejected until its manifest's SHA-256 differs from `manifest_sum`."""

    manifest_sum: str
    reason: str
    message: str

    def error(self) -> ModelRejectedError:
        """Returns the rejection as an error for clients."""
        return ModelRejectedError(self.reason, self.message)


@dataclass(frozen=True, slots=True)
class LifecycleState:
    """Holds the decisions made while a server ran.

    Attributes:
        aliases: Version by alias by model.
        rejected: The versions that were rolled back.
    """

    aliases: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    rejected: Mapping[ServableId, Rejection] = field(default_factory=dict)


def read_state(path: Path | None) -> LifecycleState:
    """Reads the saved decisions.

    A missing file holds nothing. Nor does an unusable one, which is logged: a server that answers with the newest
    version is better than none.
    """
    if path is None:
        return LifecycleState()
    try:
        return _parse(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return LifecycleState()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        log.error(  # noqa: TRY400 - no trace: nothing is broken but the file
            "lifecycle_state_file cannot be used and is ignored; mend it, or remove it",
            path=str(path),
            error=repr(error),
        )
        return LifecycleState()


def write_state(path: Path | None, state: LifecycleState) -> None:
    """Writes the decisions atomically: a reader finds the old file or the new one. One call at a time.

    Raises:
        OSError: The file cannot be written; the old one is as it was.
    """
    if path is None:
        return
    rejected = [
        {
            "model": each.name,
            "version": each.version,
            "manifest_sha256": rejection.manifest_sum,
            "reason": rejection.reason,
            "message": rejection.message,
        }
        for each, rejection in sorted(state.rejected.items())
    ]
    document = {"format_version": _FORMAT_VERSION, "aliases": state.aliases, "rejected": rejected}
    content = json.dumps(document, indent=2, sort_keys=True).encode()
    staged = path.with_name(f".{path.name}.new")
    try:
        with staged.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        staged.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            staged.unlink(missing_ok=True)
        if error.errno not in _NO_RENAMING or not path.exists():
            raise
        _write_in_place(path, content)


def _write_in_place(path: Path, content: bytes) -> None:
    """Writes a file that cannot be replaced: it is mounted by itself, or its folder is read-only."""
    with path.open("r+b") as stream:
        if hasattr(os, "posix_fallocate"):  # so that a full disk is noticed before anything is overwritten
            os.posix_fallocate(stream.fileno(), 0, len(content))
        stream.write(content)
        stream.truncate()
        stream.flush()
        os.fsync(stream.fileno())


class StateFile:
    """Manages the state file of one server; detects writes by other servers. One call at a time, any thread.

    Args of the constructor:
        path: The file, there or not; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen = _content(path)

    def read(self) -> LifecycleState:
        """Reads the decisions; see `read_state`."""
        self._seen = _content(self._path)
        return read_state(self._path)

    def write(self, state: LifecycleState) -> None:
        """Writes the decisions; see `write_state`.

        Raises:
            OSError: The file cannot be written, or another server has written it since it was read here.
        """
        if self._path is None:
            return
        with _locked(self._path):
            if _content(self._path) != self._seen:
                raise OSError(
                    errno.ESTALE,
                    "another server has written lifecycle_state_file; give each server a file of its own, or "
                    "restart this one to read the decisions of the other",
                )
            write_state(self._path, state)
            self._seen = _content(self._path)


def _content(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError:
        return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Locks out other servers for the duration of the block, where the folder takes a lock file."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            lock = held.enter_context(path.with_name(f".{path.name}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _parse(document: Any) -> LifecycleState:  # noqa: ANN401 - whatever JSON held
    if document["format_version"] != _FORMAT_VERSION:
        raise ValueError(f"format_version is {document['format_version']}, this server reads {_FORMAT_VERSION}")
    aliases = parse_aliases(
        [
            f"{model}:{alias}={version}"
            for model, aliases in document["aliases"].items()
            for alias, version in aliases.items()
        ]
    )
    # Absent in files of servers that rolled nothing back.
    return LifecycleState(aliases, dict(_parse_rejection(each) for each in document.get("rejected", [])))


def _parse_rejection(entry: Any) -> tuple[ServableId, Rejection]:  # noqa: ANN401 - as above
    name, version, texts = entry["model"], entry["version"], (entry["reason"], entry["message"])
    manifest_sum = entry["manifest_sha256"]
    if not (isinstance(name, str) and type(version) is int and version > 0 and isinstance(manifest_sum, str)):
        raise ValueError(f"rejected: {name!r}, version {version!r}, of {manifest_sum!r} is no version")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"rejected: reason and message of {name}/{version} must be texts")
    return ServableId(name, version), Rejection(manifest_sum, *texts)
