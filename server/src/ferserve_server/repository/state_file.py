"""Keeps the aliases that were set while the server ran, in a JSON file.

::

    {"format_version": 1, "aliases": {"fer-nano": {"stable": 3}}}
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

import structlog

from ferserve_server.repository.aliases import parse_aliases

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

log = structlog.get_logger(__name__)

_FORMAT_VERSION: Final = 1


def read_state(path: Path | None) -> dict[str, dict[str, int]]:
    """Reads the aliases, version by alias by model.

    A file that is not there holds none. Nor does one that cannot be used, which is logged: a server that answers
    with the newest version is better than none.
    """
    if path is None:
        return {}
    try:
        return _parse(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        log.error(  # noqa: TRY400 - no trace: nothing is broken but the file
            "lifecycle_state_file cannot be used and is ignored; mend it, or remove it",
            path=str(path),
            error=repr(error),
        )
        return {}


def write_state(path: Path | None, aliases: Mapping[str, Mapping[str, int]]) -> None:
    """Writes the aliases in one step: a reader finds the old file or the new one. One call at a time.

    Raises:
        OSError: The file cannot be written; the old one is as it was.
    """
    if path is None:
        return
    document = {"format_version": _FORMAT_VERSION, "aliases": aliases}
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


def _parse(document: Any) -> dict[str, dict[str, int]]:  # noqa: ANN401 - whatever JSON held
    if document["format_version"] != _FORMAT_VERSION:
        raise ValueError(f"format_version is {document['format_version']}, this server reads {_FORMAT_VERSION}")
    return parse_aliases(
        [
            f"{model}:{alias}={version}"
            for model, aliases in document["aliases"].items()
            for alias, version in aliases.items()
        ]
    )
