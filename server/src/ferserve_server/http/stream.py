"""Implements GET /v1/stream: answers frames with faces over a WebSocket.

The same use case as StreamFrames over gRPC, with JSON answers. Every frame gets exactly one answer, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve_server.domain.errors import DrainingError, FerserveError, InvalidRequestError
from ferserve_server.domain.trace import Operation, current_stream
from ferserve_server.http.calls import METHOD_PREFIX, send_reply
from ferserve_server.http.frames import (
    FRAME_HEADER,
    MAX_CONFIG_BYTES,
    format_frame,
    format_ready,
    format_stream_error,
    parse_config,
    parse_frame,
)
from ferserve_server.http.responses import error_reply
from ferserve_server.services.status import code_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ferserve_server.domain.models import Acquire
    from ferserve_server.http.origins import OriginPolicy
    from ferserve_server.services.calls import Calls
    from ferserve_server.services.emotion import EmotionServicer
    from ferserve_server.services.limits import RequestLimits

log = structlog.get_logger(__name__)

SUBPROTOCOL: Final = "ferserve.stream.v1"

CREDIT: Final = 2
"""Maximum unanswered frames of a client: one that is analysed and one in transit."""

_PING_INTERVAL_S: Final = 20.0
"""Interval of pings: silently lost clients are noticed within 30 s. Proxies close idle connections after 60 s."""

_CLOSE_S: Final = 1.0
"""Maximum wait for the client's side of a close."""

_OPERATION: Final = Operation.http("GET", "/v1/stream")

_MAX_TEXT_SLACK: Final = 64 * 1024
"""Excess over the limit up to which an error names the limit; beyond it the library cuts the connection."""

_CLOSE_CODES: Final = {
    grpc.StatusCode.UNAVAILABLE: WSCloseCode.TRY_AGAIN_LATER,
    grpc.StatusCode.RESOURCE_EXHAUSTED: WSCloseCode.TRY_AGAIN_LATER,
    grpc.StatusCode.INTERNAL: WSCloseCode.INTERNAL_ERROR,
}
"""Close codes of errors (RFC 6455, 7.4.1, and IANA's registry); for others POLICY_VIOLATION."""


_CLOSED_WELL: Final = (WSCloseCode.OK, WSCloseCode.GOING_AWAY)
"""Close codes of clients that finished: a program ends the stream, or a page is left."""


def close_code(error: FerserveError) -> WSCloseCode:
    """Chooses the close code of an error that ends a stream."""
    if isinstance(error, DrainingError):
        return WSCloseCode.SERVICE_RESTART
    return _CLOSE_CODES.get(code_of(error), WSCloseCode.POLICY_VIOLATION)


class StreamRoute:
    """Answers WebSocket handshakes at /v1/stream. Event loop only.

    Args of the constructor:
        calls: Counts streams, and rejects them while the server drains.
        emotion: Answers the frames.
        acquire: Tells the model of a stream before its first frame.
        limits: Bounds of a request.
        origins: Pages that may connect.
        config_timeout_s: The configuration must arrive within this many seconds.
    """

    def __init__(
        self,
        calls: Calls,
        emotion: EmotionServicer,
        acquire: Acquire,
        limits: RequestLimits,
        origins: OriginPolicy,
        config_timeout_s: float,
    ) -> None:
        self._calls = calls
        self._emotion = emotion
        self._acquire = acquire
        self._limits = limits
        self._origins = origins
        self._config_timeout_s = config_timeout_s

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Serves one stream until the client closes it, an error ends it, or the server drains."""
        opened = self._calls.open_stream(_OPERATION, f"{METHOD_PREFIX}stream", request.headers.items())
        traced = current_stream.set(opened.trace)
        try:
            socket = web.WebSocketResponse(
                timeout=_CLOSE_S,
                heartbeat=_PING_INTERVAL_S,
                protocols=(SUBPROTOCOL,),
                compress=False,
                max_msg_size=self._limits.max_message_bytes + FRAME_HEADER.size + _MAX_TEXT_SLACK,
            )
            rejection = opened.rejection or self._rejection(request, socket)
            if rejection is not None:
                opened.count(rejection)
                return await send_reply(request, error_reply(rejection, _handshake_headers(rejection)), last=True)
            ended_by: BaseException | None = None
            try:
                await socket.prepare(request)
                await self._serve(socket)
            except (ConnectionError, asyncio.CancelledError) as error:
                # A client that closes well may drop the connection before its last answers are written.
                ended_by = None if socket.close_code in _CLOSED_WELL else asyncio.CancelledError()
                if isinstance(error, asyncio.CancelledError):
                    raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a reason
                ended_by = error
            finally:
                reported = opened.count(ended_by)
            if reported is not None:
                await _close_with(socket, reported)
            return socket
        finally:
            current_stream.reset(traced)
            opened.close()

    def _rejection(self, request: web.Request, socket: web.WebSocketResponse) -> FerserveError | None:
        try:
            self._origins.check_origin(request.headers)
        except FerserveError as error:
            return error
        if not socket.can_prepare(request).ok:
            return InvalidRequestError(
                "UPGRADE_REQUIRED",
                "This path speaks WebSocket (RFC 6455, version 13): connect to it with a WebSocket client.",
                field="",
            )
        return None

    async def _serve(self, socket: web.WebSocketResponse) -> None:
        text = await self._first_message(socket)
        if text is None:
            return
        config = parse_config(text)
        spec = self._emotion.parse_stream_config(config).spec
        with self._acquire(spec, once=True) as lease:
            labels, servable = lease.description.labels, lease.id
        await _send(socket, format_ready(CREDIT, labels, servable))
        requests = self._requests(socket, config)
        async with contextlib.aclosing(self._emotion.stream_frames(requests)) as responses:
            async for response in responses:
                if response.labels:
                    labels = tuple(response.labels)
                await _send(socket, format_frame(response, labels))
        await socket.close(code=WSCloseCode.OK)

    async def _first_message(self, socket: web.WebSocketResponse) -> str | None:
        """Waits for the configuration; None if the client left."""
        receiving = asyncio.ensure_future(socket.receive())
        draining = asyncio.ensure_future(self._calls.draining.wait())
        try:
            await asyncio.wait(
                (receiving, draining), timeout=self._config_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if draining.done() and not receiving.done():
                raise DrainingError(last_sequence_id=-1)
            if not receiving.done():
                raise InvalidRequestError(
                    "STREAM_CONFIG_REQUIRED",
                    f"No configuration arrived within {self._config_timeout_s:g} s (setting http_body_timeout_s).",
                    field="config",
                )
            message = receiving.result()
        finally:
            receiving.cancel()
            draining.cancel()
        if message.type is WSMsgType.TEXT:
            return str(message.data)
        if message.type is WSMsgType.BINARY:
            raise InvalidRequestError(
                "STREAM_CONFIG_REQUIRED",
                f"The first message of the stream must be its config, JSON of at most {MAX_CONFIG_BYTES} bytes.",
                field="config",
            )
        return None

    async def _requests(
        self, socket: web.WebSocketResponse, config: emotion_pb2.FrameStreamConfig
    ) -> AsyncIterator[emotion_pb2.StreamFramesRequest]:
        yield emotion_pb2.StreamFramesRequest(config=config)
        while True:
            message = await socket.receive()
            if message.type is WSMsgType.BINARY:
                self._limits.check_message(len(message.data) - FRAME_HEADER.size)
                yield parse_frame(message.data)
            elif message.type is WSMsgType.TEXT:
                raise InvalidRequestError(
                    "STREAM_CONFIG_REPEATED", "After the config every message must be a frame.", field="frame"
                )
            elif message.type is WSMsgType.ERROR:
                raise ConnectionResetError(str(message.data))
            else:
                return  # closed by the client


async def _send(socket: web.WebSocketResponse, document: dict[str, Any]) -> None:
    await socket.send_str(json.dumps(document, ensure_ascii=False, separators=(",", ":")))


async def _close_with(socket: web.WebSocketResponse, error: FerserveError) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):  # the client left, or the handshake failed
        if not socket.closed:
            await _send(socket, format_stream_error(error))
        await socket.close(code=close_code(error), message=error.reason.encode())


def _handshake_headers(error: FerserveError) -> dict[str, str]:
    return {"Upgrade": "websocket"} if error.reason == "UPGRADE_REQUIRED" else {}
