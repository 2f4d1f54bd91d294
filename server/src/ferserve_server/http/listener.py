"""Accepts HTTP connections up to the limits, and writes protocol errors as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
from aiohttp import http_exceptions, web

from ferserve_server.domain.errors import FerserveError, InvalidRequestError
from ferserve_server.http.responses import error_reply
from ferserve_server.runtime.addresses import bound, port_of

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import AsyncIterator

    from ferserve_server.http.responses import Reply
    from ferserve_server.runtime.connection_limits import ConnectionLimiter, ConnectionSlot

log = structlog.get_logger(__name__)

_SHUTDOWN_S: Final = 1.0
"""Maximum time to write complete answers at a shutdown; then they are cut off, as in the gRPC server."""

_IDLE_S: Final = 75.0
"""Age at which idle connections are closed. Proxies close theirs after 60 s, and must do so first."""

_HANDSHAKE_S: Final = 10.0
"""Maximum time of a TLS handshake."""

_BACKLOG: Final = 128

_PAUSE_S: Final = 0.1
"""Pause of accepting while the system has no descriptor for another connection."""

_NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_FIELD_SLACK: Final = 2
"""Factor on the limit at which the library rejects header fields, before all of them are read; see `Calls`."""

_MAX_FIELDS: Final = 256
"""Maximum number of header fields."""


@contextlib.asynccontextmanager
async def listening_http(
    application: web.Application,
    address: str,
    context: ssl.SSLContext | None,
    limiter: ConnectionLimiter,
    *,
    max_header_bytes: int,
) -> AsyncIterator[int | None]:
    """Serves an application until the block is left; open answers are cut off after a second.

    Args:
        application: Answers the requests.
        address: See `parse_address`; port 0 picks a free one.
        context: For HTTPS, or None.
        limiter: Counts the connections.
        max_header_bytes: Limit of a request's header.

    Yields:
        The port; None for a Unix-domain socket.

    Raises:
        ListenError: The address cannot be listened on.
    """
    runner = web.AppRunner(
        application,
        access_log=None,
        logger=_disabled_logger(),
        handler_cancellation=True,
        shutdown_timeout=_SHUTDOWN_S,
    )
    await runner.setup()
    try:
        with bound(address, "--http-listen") as sockets:
            listener = _Listener(runner, context, limiter, max_header_bytes)
            for each in sockets:  # at once, so that clients can connect when the port is reported
                each.setblocking(False)
                each.listen(_BACKLOG)
            accepting = [asyncio.ensure_future(listener.accept(each)) for each in sockets]
            try:
                yield port_of(sockets)
            finally:
                for task in accepting:
                    task.cancel()
                await asyncio.gather(*accepting, return_exceptions=True)
    finally:
        await runner.cleanup()


class _Listener:
    """Accepts the connections of one server. Event loop only."""

    def __init__(
        self,
        runner: web.AppRunner,
        context: ssl.SSLContext | None,
        limiter: ConnectionLimiter,
        max_header_bytes: int,
    ) -> None:
        self._runner = runner
        self._context = context
        self._limiter = limiter
        self._max_field_bytes = max_header_bytes * _FIELD_SLACK
        self._loop = asyncio.get_running_loop()
        self._starting: set[asyncio.Task[None]] = set()

    async def accept(self, listening: socket.socket) -> None:
        """Accepts until it is cancelled."""
        while True:
            try:
                connection, peer = await self._loop.sock_accept(listening)
            except OSError as error:
                if error.errno in _NO_DESCRIPTOR:
                    log.error("connections wait: no descriptor for another", error=str(error))  # noqa: TRY400 - no trace
                    await asyncio.sleep(_PAUSE_S)
                continue  # else the client left while it was accepted
            slot = self._limiter.enter(str(peer[0]) if isinstance(peer, tuple) else "")
            if slot is None:
                connection.close()
                continue
            task = self._loop.create_task(self._start(connection, slot))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start(self, connection: socket.socket, slot: ConnectionSlot) -> None:
        timeout = None if self._context is None else _HANDSHAKE_S
        try:
            await self._loop.connect_accepted_socket(
                lambda: _RequestHandler(self._runner, slot, self._max_field_bytes),
                connection,
                ssl=self._context,
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
