"""What goes back: a status, headers and bytes. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ferserve_server.transport.http.status import error_headers, format_error, http_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ferserve_server.domain.errors import FerserveError


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to a request."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_reply(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A JSON document, ended by a line feed so that a terminal shows it well."""
    return Reply(json.dumps(document, ensure_ascii=False).encode() + b"\n", status, headers=headers or {})


def error_reply(error: FerserveError, headers: Mapping[str, str] | None = None) -> Reply:
    """An error, with its status and what a program needs to act on it."""
    return json_reply(format_error(error), http_status(error), {**error_headers(error), **(headers or {})})
