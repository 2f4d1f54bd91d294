"""A call of any method, answered by its handler as the gRPC server would have it answered."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import structlog
from google.protobuf.message import DecodeError

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.errors import DeadlineExpiredError, FerserveError
from ferserve_server.transport.express.context import Aborted, CallContext
from ferserve_server.transport.express.faults import MessageFault
from ferserve_server.transport.express.inbox import Inbox
from ferserve_server.transport.express.trailers import (
    CANCELLED,
    INTERNAL,
    OK_BLOCK,
    UNIMPLEMENTED,
    error_block,
    status_block,
)

if TYPE_CHECKING:
    from ferserve_server.transport.express.faults import Fault
    from ferserve_server.transport.express.method_table import Handler
    from ferserve_server.transport.express.request_head import RequestHead
    from ferserve_server.transport.express.stream import Stream

log = structlog.get_logger(__name__)


class HandlerCall:
    """Implements `stream.Call`: a Task in which the handler runs. Event loop only.

    Args of the constructor:
        handler: Of the method.
        stream: What carries it.
        head: What it began with.
        caller: Whose it is.
    """

    def __init__(
        self, handler: Handler, stream: Stream, head: RequestHead, caller: CallerId = UNKNOWN_CALLER
    ) -> None:
        self.is_unary: bool = not handler.request_streaming
        self._handler = handler
        self._stream = stream
        self._path = head.path
        self._requests = Inbox(stream.release)
        self._writable = asyncio.Event()
        self._is_open = True
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(CallContext(head, self._send, caller)))
        self._timer = None if head.timeout_s is None else loop.call_later(head.timeout_s, self._expire)

    def take(self, message: bytes) -> None:
        """Takes a message in; its bytes are held until the handler asks for it."""
        read = self._handler.request_deserializer
        try:
            self._requests.put(message if read is None else read(message), message)
        except DecodeError:
            self.fail(MessageFault(INTERNAL, f"These bytes are no message of {self._path}."))

    def end(self) -> None:
        """Notes that no message follows."""
        self._requests.end()

    def fail(self, fault: Fault) -> None:
        """Ends it with why what follows cannot be taken."""
        if isinstance(fault, MessageFault):
            self._finish(fault.trailers)
            self._task.cancel()
        else:
            # The handler counts it with its call.
            self._requests.end(fault)

    def writable(self) -> None:
        """Lets the handler go on."""
        self._writable.set()

    def cancel(self) -> None:
        """Stops the handler."""
        self._close()
        self._task.cancel()

    async def _run(self, context: CallContext) -> None:
        try:
            await self._answer(context)
            trailers = OK_BLOCK
        except Aborted as aborted:
            trailers = aborted.trailers
        except (FerserveError, MessageFault) as fault:
            trailers = fault.trailers if isinstance(fault, MessageFault) else error_block(fault)
        except asyncio.CancelledError:
            self._finish(status_block(CANCELLED, "The server gave this call up."))
            raise
        except Exception:
            log.exception("call failed outside its handler", path=self._path)
            trailers = status_block(INTERNAL, "The server failed on this call. Its log tells more.")
        self._finish(trailers)

    async def _answer(self, context: CallContext) -> None:
        """Has the handler answer, which was made for one of four shapes of calls."""
        handler = self._handler
        if handler.request_streaming:
            asked: Any = self._requests
            answer = handler.stream_stream if handler.response_streaming else handler.stream_unary
        else:
            asked = await self._only_request()
            answer = handler.unary_stream if handler.response_streaming else handler.unary_unary
        answered = answer(asked, context)
        if isinstance(answered, AsyncGenerator):
            async with contextlib.aclosing(answered):
                async for message in answered:
                    await self._send(message)
            return
        response = await answered  # or nothing, of one that used `context.write`
        if not handler.response_streaming and self._is_open:
            self._close()
            self._stream.answer(self._written(response))

    async def _only_request(self) -> Any:  # noqa: ANN401 - any message
        found = [request async for request in self._requests]
        if len(found) != 1:
            raise MessageFault(UNIMPLEMENTED, f"{self._path} takes one message; there were {len(found)}.")
        return found[0]

    async def _send(self, response: Any) -> None:  # noqa: ANN401 - any message
        if self._is_open:
            self._stream.send(self._written(response))
        while self._is_open and self._stream.unsent is not None:
            self._writable.clear()
            await self._writable.wait()

    def _written(self, response: Any) -> bytes:  # noqa: ANN401 - any message
        write = self._handler.response_serializer
        written: bytes = response if write is None else write(response)
        return written

    def _expire(self) -> None:
        """Answers in place of a handler that nobody waits for any more, as gRPC does."""
        self._finish(error_block(DeadlineExpiredError()))
        self._task.cancel()

    def _finish(self, trailers: bytes) -> None:
        if self._is_open:
            self._close()
            self._stream.finish(trailers)

    def _close(self) -> None:
        self._is_open = False
        if self._timer is not None:
            self._timer.cancel()
