"""Implements GET /: serves the page from files of the package, which are read once at the start."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from aiohttp import web

from ferserve_server.http.calls import send_reply
from ferserve_server.http.responses import Reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), display-capture=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers that allow nothing from elsewhere, no script or style outside the files, no frame around the page."""


@dataclass(frozen=True, slots=True)
class PageFile:
    """Holds one file of the page.

    Attributes:
        body: Its bytes.
        content_type: Its media type.
        etag: Changes with the bytes.
    """

    body: bytes
    content_type: str
    etag: str


def read_page() -> dict[str, PageFile]:
    """Reads the files of the page, by their names."""
    found: dict[str, PageFile] = {}
    for entry in files("ferserve_server.http").joinpath("page").iterdir():
        suffix = entry.name[entry.name.rfind(".") :]
        if suffix in _TYPES:
            body = entry.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
            found[entry.name] = PageFile(body, _TYPES[suffix], etag)
    return found


def page_routes() -> list[web.RouteDef]:
    """Makes the routes of the page: index.html at /, the other files below /page/."""
    found = read_page()
    index = found.pop("index.html")
    return [
        web.get("/", _handler(index)),
        *(web.get(f"/page/{name}", _handler(file)) for name, file in sorted(found.items())),
    ]


def _handler(file: PageFile) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    # Browsers keep the files and ask with their ETag before each use, so that a new server's page is whole.
    headers = {**SECURITY_HEADERS, "ETag": file.etag, "Cache-Control": "no-cache"}

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("If-None-Match") == file.etag:
            return await send_reply(request, Reply(b"", 304, file.content_type, headers))
        return await send_reply(request, Reply(file.body, 200, file.content_type, headers))

    return answer
