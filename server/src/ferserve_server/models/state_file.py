"""Keeps what was decided while the server ran, in a JSON file: aliases, and versions that were rolled back.

::

    {"format_version": 1,
     "aliases": {"fer-nano": {"stable": 3}},
     "refused": [{"model": "fer-nano", "version": 4, "manifest_time": 1763712000.5,
                  "reason": "CANARY_ROLLED_BACK", "message": "..."}]}
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import ServableId
from ferserve_server.models.aliases import parse_aliases

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

log = structlog.get_logger(__name__)

_FORMAT_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a version is not tried again until its manifest has another time than `manifest_time` (s since 1970)."""

    manifest_time: float
    reason: str
    message: str

    def error(self) -> ModelRejectedError:
        """The refusal as callers see it."""
        return ModelRejectedError(self.reason, self.message)


@dataclass(frozen=True, slots=True)
class LifecycleState:
    """What was decided while a server ran.

    Attributes:
        aliases: Version by alias by model.
        refused: The versions that were rolled back.
    """

    aliases: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    refused: Mapping[ServableId, Refusal] = field(default_factory=dict)


def read_state(path: Path | None) -> LifecycleState:
    """Reads what was decided.

    A file that is not there holds nothing. Nor does one that cannot be used, which is logged: a server that
    answers with the newest version is better than none.
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
    """Writes what was decided in one step: a reader finds the old file or the new one. One call at a time.

    Raises:
        OSError: The file cannot be written; the old one is as it was.
    """
    if path is None:
        return
    refused = [
        {
            "model": each.name,
            "version": each.version,
            "manifest_time": refusal.manifest_time,
            "reason": refusal.reason,
            "message": refusal.message,
        }
        for each, refusal in sorted(state.refused.items())
    ]
    document = {"format_version": _FORMAT_VERSION, "aliases": state.aliases, "refused": refused}
    staged = path.with_name(f".{path.name}.new")
    try:
        with staged.open("w", encoding="utf-8") as stream:
            json.dump(document, stream, indent=2, sort_keys=True)
            stream.flush()
            os.fsync(stream.fileno())
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise


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
    return LifecycleState(aliases, dict(_parse_refusal(each) for each in document.get("refused", [])))


def _parse_refusal(entry: Any) -> tuple[ServableId, Refusal]:  # noqa: ANN401 - as above
    name, version, texts = entry["model"], entry["version"], (entry["reason"], entry["message"])
    manifest_time = float(entry["manifest_time"])
    if not (isinstance(name, str) and type(version) is int and version > 0 and math.isfinite(manifest_time)):
        raise ValueError(f"refused: {name!r}, version {version!r}, of {manifest_time} is no version")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"refused: reason and message of {name}/{version} must be texts")
    return ServableId(name, version), Refusal(manifest_time, *texts)
