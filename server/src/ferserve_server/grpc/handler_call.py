"""Runs a call of any method through its handler, with the behaviour of gRPC's own server."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Final, Self

import structlog
from google.protobuf.message import DecodeError

from ferserve_server.domain.errors import DeadlineExpiredError, FerserveError
from ferserve_server.grpc.context import AbortError, CallContext
from ferserve_server.grpc.errors import MessageError
from ferserve_server.grpc.trailers import CANCELLED, INTERNAL, OK, UNIMPLEMENTED, error_trailers, status_trailers
from ferserve_server.services.call_tracker import EXPIRED

if TYPE_CHECKING:
    from ferserve_server.grpc.errors import ReceiveError
    from ferserve_server.grpc.stream import GrpcStream
    from ferserve_server.http2.engine import Headers

log = structlog.get_logger(__name__)

Handler = Any
"""A `grpc.RpcMethodHandler`; its fields are known only where it is used."""

_MAX_QUEUED: Final = 16
"""Maximum messages that wait for the handler, because each costs far more memory than its bytes."""


class HandlerCall:
    """Implements `stream.Call` by a Task that runs the handler. Event loop only.

    Args of the constructor:
        handler: Of the method.
        stream: Carries it.
    """

    def __init__(self, handler: Handler, stream: GrpcStream) -> None:
        self.is_unary: bool = not handler.request_streaming
        self._handler = handler
        self._stream = stream
        self._path = stream.head.path
        self._queue = MessageQueue(stream)
        self._writable = asyncio.Event()
        self._is_open = True
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(CallContext(stream, self._send)))
        timeout_s = stream.head.timeout_s
        self._timer = None if timeout_s is None else loop.call_later(timeout_s, self._expire)

    @property
    def ready(self) -> bool:
        """Returns whether the next message is accepted."""
        return len(self._queue.messages) < _MAX_QUEUED

    def on_message(self, message: bytes) -> None:
        """Queues a message for the handler."""
        read = self._handler.request_deserializer
        try:
            self._queue.put(message if read is None else read(message))
        except DecodeError:
            self.on_error(MessageError(INTERNAL, f"These bytes are no message of {self._path}."))

    def on_half_close(self) -> None:
        """Ends the message queue."""
        self._queue.end()

    def on_error(self, error: ReceiveError) -> None:
        """Ends the call, or leaves that to the handler, which counts the error with its call."""
        if isinstance(error, MessageError):
            self._finish(error.trailers)
            self._task.cancel()
        else:
            self._queue.end(error)

    def on_writable(self) -> None:
        """Resumes the handler."""
        self._writable.set()

    def on_cancel(self) -> None:
        """Stops the handler."""
        self._close()
        self._task.cancel()

    async def _run(self, context: CallContext) -> None:
        try:
            await self._answer(context)
            trailers = OK + context.trailing_metadata
        except AbortError as aborted:
            trailers = aborted.trailers
        except MessageError as error:
            trailers = error.trailers
        except FerserveError as error:
            trailers = error_trailers(error)
        except asyncio.CancelledError:
            self._finish(status_trailers(CANCELLED, "The server cancelled this call."))
            raise
        except Exception:
            log.exception("call failed outside its handler", path=self._path)
            trailers = status_trailers(INTERNAL, "The server failed on this call. Its log tells more.")
        self._finish(trailers)

    async def _answer(self, context: CallContext) -> None:
        """Runs the handler, which has one of four arities."""
        handler = self._handler
        if handler.request_streaming:
            request: Any = self._queue
            answer = handler.stream_stream if handler.response_streaming else handler.stream_unary
        else:
            request = await self._only_request()
            answer = handler.unary_stream if handler.response_streaming else handler.unary_unary
        answered = answer(request, context)
        if isinstance(answered, AsyncGenerator):
            async with contextlib.aclosing(answered):
                async for message in answered:
                    await self._send(message)
            return
        response = await answered  # or nothing, of one that used `context.write`
        if not handler.response_streaming and self._is_open:
            self._close()
            self._stream.answer(self._serialized(response), OK + context.trailing_metadata)

    async def _only_request(self) -> Any:  # noqa: ANN401 - any message
        found = [request async for request in self._queue]
        if len(found) != 1:
            raise MessageError(UNIMPLEMENTED, f"{self._path} takes one message; there were {len(found)}.")
        return found[0]

    async def _send(self, response: Any) -> None:  # noqa: ANN401 - any message
        if self._is_open:
            self._stream.send(self._serialized(response))
        while self._is_open and self._stream.blocked:
            self._writable.clear()
            await self._writable.wait()

    def _serialized(self, response: Any) -> bytes:  # noqa: ANN401 - any message
        write = self._handler.response_serializer
        serialized: bytes = response if write is None else write(response)
        return serialized

    def _expire(self) -> None:
        """Answers in place of a handler whose caller no longer waits, as gRPC does."""
        self._finish(error_trailers(DeadlineExpiredError()))
        self._task.cancel(EXPIRED)

    def _finish(self, trailers: Headers) -> None:
        if self._is_open:
            self._close()
            self._stream.finish(trailers)

    def _close(self) -> None:
        self._is_open = False
        self._writable.set()
        if self._timer is not None:
            self._timer.cancel()


class MessageQueue:
    """Iterates asynchronously over the messages of a call, for one reader. Event loop only."""

    def __init__(self, stream: GrpcStream) -> None:
        self._stream = stream
        self.messages: deque[Any] = deque()
        self._ended = False
        self._error: FerserveError | None = None
        self._changed = asyncio.Event()
        self._taken = 0

    def put(self, request: Any) -> None:  # noqa: ANN401 - any message
        """Adds a message."""
        self.messages.append(request)
        self._changed.set()

    def end(self, error: FerserveError | None = None) -> None:
        """Ends the queue, with an error if the next message cannot be processed."""
        self._ended, self._error = True, error
        self._changed.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401 - any message
        self._taken += 1
        if self._taken % _MAX_QUEUED == 0:
            await asyncio.sleep(0)
        while not self.messages:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        request = self.messages.popleft()
        self._stream.deliver()
        return request
