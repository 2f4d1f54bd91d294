"""What every call has in common: intake, deadline, metrics, and errors that become a status.

Plain wrappers around the handlers rather than gRPC interceptors: those cost a chain of calls on every request.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
import structlog

from ferserve_server.domain.errors import DrainingError, FerserveError
from ferserve_server.transport.status import code_of, trailers_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable

    from ferserve_server.domain.ports import CallObserver, Clock
    from ferserve_server.transport.limits import RequestLimits

log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


_OK: Final = grpc.StatusCode.OK.name
_CANCELLED: Final = grpc.StatusCode.CANCELLED.name
"""Enumerations make their names anew at every look."""

Request = TypeVar("Request")
Response = TypeVar("Response")
Answer = TypeVar("Answer")
Sent = TypeVar("Sent")


def _protobuf_length(message: Any) -> int:  # noqa: ANN401 - any protobuf message
    length: int = message.ByteSize()
    return length


class Calls:
    """Takes calls in and sees them out. Event loop only.

    Attributes:
        draining: Set when nothing new may be taken.
    """

    def __init__(self, limits: RequestLimits, observer: CallObserver, clock: Clock) -> None:
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self.draining = asyncio.Event()
        self._open_count = 0
        self._taken_count = 0
        self._idle = asyncio.Event()

    async def wait_idle(self) -> None:
        """Returns when no call is open."""
        if self._open_count:
            self._idle.clear()
            await self._idle.wait()

    async def wait_quiet(self, quiet_s: float) -> None:
        """Returns when no call is open and none came for `quiet_s` seconds.

        gRPC cancels calls that reach it while it stops. Until callers have heard of the drain, calls come.
        """
        taken_count = -1
        while self._open_count or taken_count != self._taken_count:
            taken_count = self._taken_count
            await self.wait_idle()
            await asyncio.sleep(quiet_s)

    def deadline(self, context: Context) -> float | None:
        """When the caller stops waiting, on the server's clock, in seconds, or None."""
        remaining_s = context.time_remaining()
        # The stubs do not tell that a call without a deadline has none.
        return None if remaining_s is None else self.deadline_in(remaining_s)  # type: ignore[redundant-expr]

    def deadline_in(self, remaining_s: float) -> float:
        """The deadline of a caller who waits for so many seconds from now on."""
        return self._clock.now() + remaining_s

    def unary(
        self,
        method: str,
        handle: Callable[[Request, Context], Awaitable[Response]],
        *,
        length: Callable[[Request], int] = _protobuf_length,
    ) -> Callable[[Request, Context], Awaitable[Response]]:
        """Wraps the handler of a unary RPC; `length` tells the bytes of a message."""

        async def run(request: Request, context: Context) -> Response:
            started_at = self._clock.now()
            self._opened(method)
            code = _OK
            refusal: FerserveError | None = None
            try:
                self._take_in(context.invocation_metadata() or ())
                self._limits.check_message(length(request))
                return await handle(request, context)
            except asyncio.CancelledError:
                code = _CANCELLED
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status
                refusal = self._as_known(method, error)
                code = code_of(refusal).name
            finally:
                # Before a status is sent, so that whoever has seen it finds it counted.
                self._observer.call_ended(method, code, self._clock.now() - started_at)
                if refusal is None:
                    self._closed()
            await self._refuse(context, refusal)
            raise refusal

        return run

    async def carried(
        self,
        method: str,
        metadata: Iterable[tuple[str, str]],
        handle: Callable[[], Awaitable[Answer]],
        send: Callable[[Answer | FerserveError], Awaitable[Sent]],
    ) -> Sent:
        """Runs a call that another protocol than gRPC carries.

        Args:
            method: Its name in the metrics.
            metadata: Names and values of its headers.
            handle: Answers; called unless the call is refused.
            send: Writes the answer, or the error in its place. The call is open until that is done.

        Returns:
            What `send` returns.
        """
        started_at = self._clock.now()
        self._opened(method)
        try:
            code = _OK
            outcome: Answer | FerserveError
            try:
                self._take_in(metadata)
                outcome = await handle()
            except asyncio.CancelledError:
                code = _CANCELLED
                raise
            except Exception as error:  # noqa: BLE001 - as above
                outcome = self._as_known(method, error)
                code = code_of(outcome).name
            finally:
                self._observer.call_ended(method, code, self._clock.now() - started_at)
            return await send(outcome)
        finally:
            self._closed()

    def open_stream(self, method: str, metadata: Iterable[tuple[str, str]]) -> OpenStream:
        """Takes in a stream that another protocol than gRPC carries, without a coroutine that runs with it.

        The stream is open, and counted, also if it is refused: see `OpenStream.refusal`.

        Args:
            method: Its name in the metrics.
            metadata: Names and values of its headers.
        """
        self._opened(method)
        refusal = None
        try:
            self._take_in(metadata)
        except FerserveError as error:
            refusal = error
        return OpenStream(self, method, refusal)

    def stream(
        self,
        method: str,
        handle: Callable[[AsyncIterator[Request], Context], AsyncGenerator[Response, None]],
        *,
        length: Callable[[Request], int] | None = _protobuf_length,
    ) -> Callable[[AsyncIterator[Request], Context], AsyncGenerator[Response, None]]:
        """Wraps the handler of a bidirectional RPC.

        Args:
            method: Its name.
            handle: Answers its messages.
            length: Tells the bytes of a message; None if `handle` refuses long ones itself.
        """

        async def run(requests: AsyncIterator[Request], context: Context) -> AsyncGenerator[Response, None]:
            self._opened(method)
            code = _OK
            refusal: FerserveError | None = None
            try:
                self._take_in(context.invocation_metadata() or ())
                checked = self._checked(requests, length) if length else requests
                async with contextlib.aclosing(handle(checked, context)) as answers:
                    async for answer in answers:
                        yield answer
            except (asyncio.CancelledError, GeneratorExit):
                code = _CANCELLED
                raise
            except Exception as error:  # noqa: BLE001 - as above
                refusal = self._as_known(method, error)
                code = code_of(refusal).name
            finally:
                self._observer.call_ended(method, code, None)
                if refusal is None:
                    self._closed()
            if refusal is not None:
                await self._refuse(context, refusal)

        return run

    async def _checked(
        self, requests: AsyncIterator[Request], length: Callable[[Request], int]
    ) -> AsyncIterator[Request]:
        async for request in requests:
            self._limits.check_message(length(request))
            yield request

    def _take_in(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        if self.draining.is_set():
            raise DrainingError
        # 32 bytes an entry on top of name and value is HTTP/2's own way to count (RFC 9113, 6.5.2).
        byte_count = 0
        for name, value in metadata:
            byte_count += len(name) + len(value) + 32
        self._limits.check_metadata(byte_count)

    @staticmethod
    def _as_known(method: str, error: Exception) -> FerserveError:
        if isinstance(error, FerserveError):
            return error
        log.error("call failed", method=method, exc_info=error)
        return FerserveError("The server failed on this call. Its log tells more.")

    async def _refuse(self, context: Context, refusal: FerserveError) -> None:
        """Sends the status of a call that failed, and only then lets go of it; raises gRPC's AbortError."""
        try:
            trailers = tuple(trailers_of(refusal))
            await context.abort(code_of(refusal), refusal.message, trailing_metadata=trailers)
        finally:
            self._closed()

    def _opened(self, method: str) -> None:
        self._observer.call_started(method)
        self._open_count += 1
        self._taken_count += 1

    def _closed(self) -> None:
        self._open_count -= 1
        if self._open_count == 0:
            self._idle.set()


class OpenStream:
    """A stream that `Calls.open_stream` took in. Event loop only.

    Attributes:
        refusal: Why it is to end at once, or None.
    """

    def __init__(self, calls: Calls, method: str, refusal: FerserveError | None) -> None:
        self._calls = calls
        self._method = method
        self.refusal = refusal

    def count(self, error: BaseException | None) -> FerserveError | None:
        """Counts how it ends, before the caller is told: with an error, CancelledError if it is gone, or well.

        Returns:
            The error that the caller is told, or None.
        """
        code, told = _OK, None
        if isinstance(error, asyncio.CancelledError):
            code = _CANCELLED
        elif isinstance(error, Exception):
            told = self._calls._as_known(self._method, error)  # noqa: SLF001 - the two classes are one mechanism
            code = code_of(told).name
        self._calls._observer.call_ended(self._method, code, None)  # noqa: SLF001 - as above
        return told

    def close(self) -> None:
        """Lets go of it, when the caller is told."""
        self._calls._closed()  # noqa: SLF001 - as above
