"""Implements the part of `grpc.aio.ServicerContext` that handlers use."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

from ferserve_server.grpc.trailers import metadata_headers, status_trailers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    import grpc

    from ferserve_server.grpc.stream import GrpcStream
    from ferserve_server.http2.engine import Headers


class AbortError(Exception):
    """Ends a call on behalf of its handler.

    Attributes:
        trailers: End the call.
    """

    def __init__(self, trailers: Headers) -> None:
        super().__init__("aborted")
        self.trailers = trailers


class CallContext:
    """Implements the part of the context that handlers use. Event loop only.

    Args of the constructor:
        stream: Carries the call.
        send: Sends a message of the answer.

    Attributes:
        caller: Whose call it is; read by `services.callers`, as is `transport`.
        transport: The connection, or None.
        trailing_metadata: Trailers that the handler adds to its answer.
    """

    def __init__(self, stream: GrpcStream, send: Callable[[Any], Awaitable[None]]) -> None:
        self.caller = stream.caller
        self.transport = stream.connection.transport
        self.trailing_metadata: Headers = ()
        self._stream = stream
        self._send = send
        self._loop = asyncio.get_running_loop()
        timeout_s = stream.head.timeout_s
        self._ends_at = None if timeout_s is None else self._loop.time() + timeout_s

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Returns the caller's headers; values of names in -bin unchanged, in base64."""
        return self._stream.head.metadata

    def time_remaining(self) -> float | None:
        """Returns the seconds until the caller's deadline, 0 or more, or None."""
        return None if self._ends_at is None else max(0.0, self._ends_at - self._loop.time())

    async def send_initial_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Sends headers before the first message."""
        if self._stream.call is not None:
            self._stream.begin(metadata)

    def set_trailing_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Sets trailers that are sent behind the status of a successful call."""
        self.trailing_metadata = metadata_headers(metadata)

    async def write(self, message: object) -> None:
        """Sends a message of the answer."""
        await self._send(message)

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: Iterable[tuple[str, str | bytes]] = (),
    ) -> NoReturn:
        """Ends the call with a status.

        Raises:
            AbortError: Always; the handler must not catch it.
        """
        raise AbortError(status_trailers(code.value[0], details, trailing_metadata))
