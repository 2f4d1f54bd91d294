"""Accepts HTTP connections up to the limits, and writes protocol errors as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
from aiohttp import http_exceptions, web

from ferserve_server.domain.errors import FerserveError, InvalidRequestError
from ferserve_server.http.responses import error_reply
from ferserve_server.runtime.addresses import port_of
from ferserve_server.runtime.endpoint import Endpoint
from ferserve_server.runtime.listener import accepting

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

    from ferserve_server.http.responses import Reply
    from ferserve_server.runtime.connection_limits import ConnectionLimiter, ConnectionSlot
    from ferserve_server.runtime.tls import ServerTls

log = structlog.get_logger(__name__)

_SHUTDOWN_S: Final = 1.0
"""Maximum time to write complete answers at a shutdown; then they are cut off, as in the gRPC server."""

_IDLE_S: Final = 75.0
"""Age at which idle connections are closed. Proxies close theirs after 60 s, and must do so first."""

_HANDSHAKE_S: Final = 10.0
"""Maximum time of a TLS handshake."""

_SWITCHING: Final = 101
"""Status of an answer that begins a WebSocket."""

_FIELD_SLACK: Final = 2
"""Factor on the limit at which the library rejects header fields, before all of them are read; see `Calls`."""

_MAX_FIELDS: Final = 256
"""Maximum number of header fields."""


@contextlib.asynccontextmanager
async def listening_http(
    application: web.Application,
    sockets: list[socket.socket],
    tls: ServerTls | None,
    limiter: ConnectionLimiter,
    *,
    max_header_bytes: int,
) -> AsyncIterator[Endpoint]:
    """Serves an application until the block is left; open answers are cut off after a second.

    Args:
        application: Answers the requests.
        sockets: Bound to the address.
        tls: For HTTPS, or None.
        limiter: Counts the connections.
        max_header_bytes: Limit of a request's header.

    Yields:
        The address. After `leave` every answer closes its connection, so that none is closed before its answer.

    Raises:
        ListenError: Another process listens there.
    """
    leaving = asyncio.Event()

    async def close_with_answer(request: web.BaseRequest, response: web.StreamResponse) -> None:
        del request
        if leaving.is_set() and response.status != _SWITCHING:
            response.force_close()
            response.headers["Connection"] = "close"  # the library chose the header before it called this

    application.on_response_prepare.append(close_with_answer)
    runner = web.AppRunner(
        application,
        access_log=None,
        logger=_disabled_logger(),
        handler_cancellation=True,
        shutdown_timeout=_SHUTDOWN_S,
    )
    await runner.setup()
    try:
        starter = _Starter(runner, tls, limiter, max_header_bytes)
        with accepting(sockets, starter.accept, "--http-listen") as close_sockets:

            def leave() -> None:
                leaving.set()
                close_sockets()

            yield Endpoint(port_of(sockets), leave, lambda: limiter.open_count == 0)
    finally:
        await runner.cleanup()


class _Starter:
    """Starts the accepted connections of one server. Event loop only."""

    def __init__(
        self,
        runner: web.AppRunner,
        tls: ServerTls | None,
        limiter: ConnectionLimiter,
        max_header_bytes: int,
    ) -> None:
        self._runner = runner
        self._tls = tls
        self._limiter = limiter
        self._max_field_bytes = max_header_bytes * _FIELD_SLACK
        self._loop = asyncio.get_running_loop()
        self._starting: set[asyncio.Task[None]] = set()

    def accept(self, connection: socket.socket) -> None:
        """Starts the connection of a socket, or closes it if there are too many."""
        try:
            peer = connection.getpeername()
        except OSError:  # the client has left already
            connection.close()
            return
        slot = self._limiter.enter(str(peer[0]) if isinstance(peer, tuple) else "")
        if slot is None:
            connection.close()
            return
        task = self._loop.create_task(self._start(connection, slot))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start(self, connection: socket.socket, slot: ConnectionSlot) -> None:
        context = None if self._tls is None else self._tls.context()
        timeout = None if context is None else _HANDSHAKE_S
        try:
            await self._loop.connect_accepted_socket(
                lambda: _RequestHandler(self._runner, slot, self._max_field_bytes),
                connection,
                ssl=context,
                ssl_handshake_timeout=timeout,
            )
        except (OSError, asyncio.CancelledError):  # the client left, sent no TLS, or the server stops
            connection.close()
            slot.leave()


class _RequestHandler(web.RequestHandler):
    """Handles one connection: the library's protocol, with JSON errors and a counted end."""

    __slots__ = ("_slot",)

    def __init__(self, runner: web.AppRunner, slot: ConnectionSlot, max_field_bytes: int) -> None:
        super().__init__(
            cast("web.Server", runner.server),
            loop=asyncio.get_running_loop(),
            keepalive_timeout=_IDLE_S,
            access_log=cast("logging.Logger", None),  # none; the library's stubs do not say that it may be
            logger=_disabled_logger(),
            max_line_size=max_field_bytes,
            max_field_size=max_field_bytes,
            max_headers=_MAX_FIELDS,
            auto_decompress=False,  # see `BodyReader`
        )
        self._slot = slot

    def connection_lost(self, exc: BaseException | None) -> None:
        """Counts the end."""
        super().connection_lost(exc)
        self._slot.leave()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers input that is not HTTP, and errors that no handler expected."""
        del message
        if request.writer.output_size > 0:
            raise ConnectionError("The answer has begun; the connection is cut.")
        if status >= 500:
            log.error("request failed", path=request.path[:200], exc_info=exc)
        return _response(error_reply(protocol_error(exc, status)))

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Writes an answer; one of the library's own errors as JSON."""
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            resp = _response(error_reply(library_error(resp)))
        return await super().finish_response(request, resp, start_time)


def protocol_error(error: BaseException | None, status: int) -> FerserveError:
    """Converts an error of the library's HTTP parser. Pure."""
    if status >= 500:
        return FerserveError("The server failed on this request. Its log tells more.")
    text = str(error)
    if isinstance(error, http_exceptions.LineTooLong) or "too many headers" in text.lower():
        return InvalidRequestError(
            "METADATA_TOO_LARGE",
            "The request's header is too large for this server (setting max_metadata_bytes). Send less of it.",
            field="",
        )
    return InvalidRequestError("HTTP_INVALID", "This is not a complete HTTP/1.1 request.", field="")


def library_error(error: web.HTTPException) -> FerserveError:
    """Converts an error response of the library. Pure."""
    if error.status == 417:
        return InvalidRequestError("EXPECTATION_FAILED", "Only Expect: 100-continue is understood.", field="")
    if error.status >= 500:
        return FerserveError("The server failed on this request. Its log tells more.")
    return InvalidRequestError("HTTP_INVALID", f"This request is not understood ({error.reason}).", field="")


def _response(reply: Reply) -> web.Response:
    headers: dict[str, Any] = {"Server": "ferserve", **reply.headers}
    response = web.Response(body=reply.body, status=reply.status, headers=headers, content_type=reply.content_type)
    response.force_close()
    return response


def _disabled_logger() -> logging.Logger:
    """Silences the library, which logs a trace for each peer that sends no HTTP. `Calls` logs failed calls."""
    logger = logging.getLogger("ferserve_server.http")
    logger.disabled = True
    return logger
