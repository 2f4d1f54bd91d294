"""What handlers are told of their call, and how they end it: the part of gRPC's context that is used here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.transport.express.trailers import status_block

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    import grpc

    from ferserve_server.transport.express.request_head import RequestHead


class Aborted(Exception):  # noqa: N818 - the handler's own wish
    """The handler ended its call.

    Attributes:
        trailers: What it ends with.
    """

    def __init__(self, trailers: bytes) -> None:
        super().__init__("aborted")
        self.trailers = trailers


class CallContext:
    """Implements what handlers use of `grpc.aio.ServicerContext`. Event loop only.

    Args of the constructor:
        head: What the call began with.
        send: Sends a message of the answer.
        caller: Whose it is; read by `transport.callers`.
    """

    def __init__(
        self,
        head: RequestHead,
        send: Callable[[Any], Awaitable[None]],
        caller: CallerId = UNKNOWN_CALLER,
    ) -> None:
        self.caller = caller
        self._head = head
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._ends_at = None if head.timeout_s is None else self._loop.time() + head.timeout_s

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Names and values of the caller's headers; those that end in -bin as they came, in base64."""
        return self._head.metadata

    def time_remaining(self) -> float | None:
        """Seconds until the caller waits no more, 0 or more, or None."""
        return None if self._ends_at is None else max(0.0, self._ends_at - self._loop.time())

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
            Aborted: Always; the handler is to let it pass.
        """
        raise Aborted(status_block(code.value[0], details, trailing_metadata))
