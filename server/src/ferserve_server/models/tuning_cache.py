"""Caches measurements of versions in a JSON file, so that a restart need not repeat them.

::

    {"format_version": 1, "entries": {"<what it holds for>": {"bfloat16_speedup": 1.8, "latency_ms": {"1": 1.1}}}}
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

log = structlog.get_logger(__name__)

_FORMAT_VERSION: Final = 1
_MAX_ENTRIES: Final = 256
"""Maximum number of entries, oldest dropped, because versions accumulate and each takes some hundred bytes."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Holds measurements of a version; the fields are those of `domain.servable.Tuning`."""

    bfloat16_speedup: float | None = None
    latency_s: Mapping[int, float] = field(default_factory=dict)


class TuneCache:
    """Caches figures by the version's manifest, the machine and the settings that they depend on.

    Args of the constructor:
        path: The file; None keeps nothing.
        conditions: The machine, the engine and its settings, in words.

    Thread-safety: any thread, one call at a time.
    """

    def __init__(self, path: Path | None = None, conditions: str = "") -> None:
        self._path = path
        self._conditions = conditions

    def read(self, manifest_sum: str) -> Measured:
        """Returns the measurements of a manifest's SHA-256; empty if the file cannot be used (logged)."""
        try:
            return _parse(self._entries().get(self._key(manifest_sum), {}))
        except (ValueError, TypeError, AttributeError) as error:
            self._log_error("tune_cache has an entry that cannot be used", error)
            return Measured()

    def write(self, manifest_sum: str, measured: Measured) -> None:
        """Saves measurements. A failed write is logged: the version works without."""
        if self._path is None:
            return
        entries = self._entries()
        entries.pop(self._key(manifest_sum), None)
        entries[self._key(manifest_sum)] = {
            "bfloat16_speedup": measured.bfloat16_speedup,
            "latency_ms": {str(size): seconds * 1e3 for size, seconds in measured.latency_s.items()},
        }
        kept = dict(list(entries.items())[-_MAX_ENTRIES:])
        # A name of its own: two servers may share the file, and the last writer wins.
        staged = self._path.with_name(f".{self._path.name}.{os.getpid()}.new")
        try:
            staged.write_text(json.dumps({"format_version": _FORMAT_VERSION, "entries": kept}, indent=2), "utf-8")
            staged.replace(self._path)
        except OSError as error:
            self._log_error("tune_cache cannot be written; the next start measures again", error)
            with contextlib.suppress(OSError):  # a disk that rejects writes may reject deletions too
                staged.unlink(missing_ok=True)

    def _entries(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            return _parse_file(json.loads(self._path.read_text("utf-8")))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._log_error("tune_cache cannot be used and is written again", error)
            return {}

    def _key(self, manifest_sum: str) -> str:
        return f"{manifest_sum}; {self._conditions}"

    def _log_error(self, text: str, error: Exception) -> None:
        log.error(text, path=str(self._path), error=repr(error))


def _parse_file(document: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON held
    if document["format_version"] != _FORMAT_VERSION:
        raise ValueError(f"format_version is {document['format_version']}, this server reads {_FORMAT_VERSION}")
    return dict(document["entries"])


def _parse(entry: Mapping[str, Any]) -> Measured:
    factor = entry.get("bfloat16_speedup")
    latency_s = {int(size): float(ms) / 1e3 for size, ms in entry.get("latency_ms", {}).items()}
    if not all(0 < seconds < float("inf") for seconds in latency_s.values()):
        raise ValueError("latency_ms must be above 0")
    return Measured(None if factor is None else float(factor), latency_s)
