"""Remembers versions that failed to load, and decides when they are retried. Pure but for its state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ferserve_server.domain.errors import ModelRejectedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ferserve_server.domain.servable import ServableId

_RETRY_RANGE_S: Final = (1.0, 300.0)
"""First and maximum pause before a load that failed transiently is retried, in seconds; doubled each time."""

_TRANSIENT_REASONS: Final = frozenset({"LOAD_OUT_OF_MEMORY", "MODEL_KEY_UNUSABLE"})
"""Rejection reasons that depend on something other than the version."""


@dataclass(frozen=True, slots=True)
class VersionStamp:
    """Identifies a version's files: SHA-256 of its manifest, and a digest of names, sizes and times."""

    manifest_sum: str
    files: str = ""


@dataclass(slots=True)
class _Failure:
    """Represents a failed load: files then, files at the last scan, attempts, and the retry time or None."""

    stamp: VersionStamp
    seen: str
    attempt_count: int
    retry_at: float | None
    final: bool = False


def is_transient(error: BaseException) -> bool:
    """Returns whether a failure may resolve by itself: the system or the memory was short of something."""
    if isinstance(error, ModelRejectedError) and error.reason in _TRANSIENT_REASONS:
        return True
    return isinstance(error, (OSError, MemoryError)) or getattr(error, "transient", False) is True


class FailedLoads:
    """Tracks versions that are not to be loaded until something has changed. Event loop only."""

    def __init__(self) -> None:
        self._failures: dict[ServableId, _Failure] = {}

    def add(self, servable_id: ServableId, stamp: VersionStamp, now: float, *, transient: bool) -> float | None:
        """Records a failure; returns the seconds until an automatic retry, if there is one."""
        before = self._failures.get(servable_id)
        count = before.attempt_count + 1 if before is not None and before.stamp == stamp else 1
        pause_s = min(_RETRY_RANGE_S[1], _RETRY_RANGE_S[0] * 2.0 ** min(count - 1, 30)) if transient else None
        retry_at = None if pause_s is None else now + pause_s
        self._failures[servable_id] = _Failure(stamp, stamp.files, count, retry_at)
        return pause_s

    def reject(self, servable_id: ServableId, manifest_sum: str) -> None:
        """Records a version that stays rejected until its manifest changes, whatever else changes."""
        self._failures[servable_id] = _Failure(VersionStamp(manifest_sum), "", 1, None, final=True)

    def forget(self, servable_id: ServableId) -> None:
        """Removes a version's record."""
        self._failures.pop(servable_id, None)

    def watched(self) -> list[ServableId]:
        """Returns the versions whose files must be checked, because they may still be being copied."""
        return [servable_id for servable_id, failure in self._failures.items() if not failure.final]

    def update_files(self, stamps: Mapping[ServableId, str], now: float) -> None:
        """Compares the files of versions with those at their failure.

        A version whose files have changed since, and are the same at two scans in a row, is due: it was copied
        file by file and is complete now. Earlier retries would read files that are not there yet.
        """
        for servable_id, files in stamps.items():
            failure = self._failures.get(servable_id)
            if failure is None or failure.final:
                continue
            if files != failure.stamp.files and files == failure.seen:
                failure.retry_at = now
            failure.seen = files

    def waiting(self, on_disk: Mapping[ServableId, str], now: float) -> dict[ServableId, str]:
        """Returns the versions that are not to be loaded now, with their manifests' checksums."""
        return {
            servable_id: on_disk[servable_id]
            for servable_id, failure in self._failures.items()
            if on_disk.get(servable_id) == failure.stamp.manifest_sum
            and (failure.retry_at is None or now < failure.retry_at)
        }

    def manifest_sum(self, servable_id: ServableId) -> str | None:
        """Returns the checksum of a failed version's manifest, or None."""
        failure = self._failures.get(servable_id)
        return None if failure is None else failure.stamp.manifest_sum
