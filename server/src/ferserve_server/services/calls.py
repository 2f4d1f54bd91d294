"""Runs the handlers of calls with tracking, deadlines, metrics, drain, and errors that become a status.

Plain wrappers around the handlers are used rather than gRPC interceptors, because those cost a chain of calls on
every request. A stream of a protocol other than gRPC is tracked from its start to its end without a coroutine of
its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc

from ferserve_server.domain.errors import FerserveError
from ferserve_server.domain.trace import Operation, current_stream, inside, sampled_spans
from ferserve_server.services.call_tracker import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    OK,
    Arrivals,
    Intake,
    cancelled_code,
    known,
)
from ferserve_server.services.reading import check_readable
from ferserve_server.services.status import code_of, trailers_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable

    from ferserve_server.domain.metrics import MetricsRecorder
    from ferserve_server.domain.ports import Clock
    from ferserve_server.domain.trace import CallTrace, CallTracer, StreamTrace
    from ferserve_server.services.limits import RequestLimits


class OpenStream:
    """Tracks one open stream of a protocol other than gRPC. Event loop only.

    Args of the constructor:
        intake: Has counted that it begins.
        method: Its name in the metrics.
        rejection: See below.
        trace: See below.

    Attributes:
        rejection: Error with which it ends at once, or None.
        trace: Samples its messages; None if none of them is traced.
    """

    def __init__(
        self, intake: Intake, method: str, rejection: FerserveError | None, trace: StreamTrace | None
    ) -> None:
        self._intake = intake
        self._method = method
        self.rejection = rejection
        self.trace = trace

    def count(self, error: BaseException | None) -> FerserveError | None:
        """Counts its end before the caller is notified: an error, CancelledError if the caller left, or success.

        Returns:
            The error that the caller gets, or None.
        """
        code, reported = OK, None
        if isinstance(error, asyncio.CancelledError):
            code = CANCELLED
        elif isinstance(error, Exception):
            reported = known(self._method, error)
            code = code_of(reported).name
        self._intake.ended(self._method, code, None)
        return reported

    def close(self) -> None:
        """Releases the stream when the caller has been notified."""
        self._intake.closed()


Context = grpc.aio.ServicerContext[Any, Any]


Request = TypeVar("Request")
Response = TypeVar("Response")
Answer = TypeVar("Answer")
Sent = TypeVar("Sent")

_SAME_MOMENT_S: Final = 1e-3
"""Tolerance in seconds, because timers of the event loop may fire early by their clock's resolution."""


def _protobuf_length(message: Any) -> int:  # noqa: ANN401 - any protobuf message
    length: int = message.ByteSize()
    return length


def reason_of(outcome: object) -> str:
    """Returns the reason of a failure, or ""."""
    return outcome.reason if isinstance(outcome, FerserveError) else ""


def _code_of_cancelled(error: BaseException, remaining_s: float | None) -> str:
    """Returns the code of a cancelled call, given the seconds left until its deadline.

    grpcio cancels at the deadline as if the caller had done it; the native server says why it cancels.
    """
    if remaining_s is not None and remaining_s <= _SAME_MOMENT_S:
        return DEADLINE_EXCEEDED
    return cancelled_code(error)


class Calls(Intake):
    """Runs calls from their start to their end. Event loop only.

    Args of the constructor:
        limits: Bounds of a request.
        recorder: Counts calls.
        clock: Tells how long they take.
        tracer: Records the sampled ones; None: nothing is traced.
    """

    def __init__(
        self, limits: RequestLimits, recorder: MetricsRecorder, clock: Clock, tracer: CallTracer | None = None
    ) -> None:
        super().__init__(limits, recorder)
        self._clock = clock
        self._tracer = tracer
        self._arrivals = Arrivals(clock)

    def deadline(self, context: Context) -> float | None:
        """Returns the caller's deadline on the server's clock, in seconds, or None."""
        remaining_s = context.time_remaining()
        # The stubs do not tell that a call without a deadline has none.
        return None if remaining_s is None else self._clock.now() + remaining_s  # type: ignore[redundant-expr]

    def deadline_in(self, timeout_s: float) -> float:
        """Returns the deadline of a call that arrived with a timeout, in seconds.

        Its bytes were there when this iteration of the event loop began, if not before: in an iteration that takes
        50 ms the last caller has lost that time in the socket.
        """
        return self._arrivals.latest_at() + timeout_s

    @property
    def traces(self) -> bool:
        """Returns whether any call may be traced."""
        return self._tracer is not None

    def begin_trace(self, operation: Operation, metadata: Iterable[tuple[str, str | bytes]]) -> CallTrace | None:
        """Begins the span of a call with these headers, for `carried`; None if it is not sampled."""
        return None if self._tracer is None else self._tracer.begin(operation, metadata)

    def unary(
        self,
        method: str,
        handle: Callable[[Request, Context], Awaitable[Response]],
        *,
        service: str,
        length: Callable[[Request], int] = _protobuf_length,
    ) -> Callable[[Request, Context], Awaitable[Response]]:
        """Wraps the handler of a unary RPC of a service; `length` returns the bytes of a message."""
        operation = Operation.rpc(service, method)

        async def run(request: Request, context: Context) -> Response:
            started_at = self._clock.now()
            self.opened(method)
            trace = None
            if self._tracer is not None:
                trace = self._tracer.begin(operation, context.invocation_metadata() or ())
                if trace is not None:  # until the end of the call's own Task
                    sampled_spans.set((trace.span,))
            code = OK
            rejection: FerserveError | None = None
            try:
                self.check_in(context.invocation_metadata() or ())
                check_readable(request)
                self._limits.check_message(length(request))
                return await handle(request, context)
            except asyncio.CancelledError as error:
                code = _code_of_cancelled(error, context.time_remaining())
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status
                rejection = known(method, error)
                code = code_of(rejection).name
            finally:
                # Before a status is sent, so that a caller that has seen it finds it counted.
                self.ended(method, code, self._clock.now() - started_at)
                if trace is not None:
                    trace.end(code, reason_of(rejection))
                if rejection is None:
                    self.closed()
            await self._reject(context, rejection)
            raise rejection

        return run

    async def carried(
        self,
        method: str,
        metadata: Iterable[tuple[str, str]],
        handle: Callable[[], Awaitable[Answer]],
        send: Callable[[Answer | FerserveError], Awaitable[Sent]],
        trace: CallTrace | None = None,
    ) -> Sent:
        """Runs a call of a protocol other than gRPC.

        Args:
            method: Its name in the metrics.
            metadata: Names and values of its headers.
            handle: Answers; called unless the call is rejected.
            send: Writes the answer, or the error in its place. The call is open until that is done.
            trace: Its span, from `begin_trace`; ends with the call.

        Returns:
            What `send` returns.
        """
        if trace is not None:
            return await self._traced(method, metadata, handle, send, trace)
        started_at = self._clock.now()
        self.opened(method)
        try:
            code = OK
            outcome: Answer | FerserveError
            try:
                self.check_in(metadata)
                outcome = await handle()
            except asyncio.CancelledError as error:
                code = cancelled_code(error)
                raise
            except Exception as error:  # noqa: BLE001 - as above
                outcome = known(method, error)
                code = code_of(outcome).name
            finally:
                self.ended(method, code, self._clock.now() - started_at)
            return await send(outcome)
        finally:
            self.closed()

    async def _traced(
        self,
        method: str,
        metadata: Iterable[tuple[str, str]],
        handle: Callable[[], Awaitable[Answer]],
        send: Callable[[Answer | FerserveError], Awaitable[Sent]],
        trace: CallTrace,
    ) -> Sent:
        """Runs a sampled call; it is not `carried` itself, so that other calls pay one comparison."""

        async def send_traced(outcome: Answer | FerserveError) -> Sent:
            code = code_of(outcome).name if isinstance(outcome, FerserveError) else OK
            try:
                return await send(outcome)
            finally:
                trace.end(code, reason_of(outcome))

        with inside((trace.span,)):
            try:
                return await self.carried(method, metadata, handle, send_traced)
            except asyncio.CancelledError as error:
                trace.end(cancelled_code(error))
                raise

    def open_stream(self, operation: Operation, method: str, metadata: Iterable[tuple[str, str]]) -> OpenStream:
        """Opens a stream of a protocol other than gRPC, without a coroutine of its own.

        The stream is open, and counted, also if it is rejected: see `OpenStream.rejection`.

        Args:
            operation: Its name in traces.
            method: Its name in the metrics.
            metadata: Names and values of its headers.
        """
        self.opened(method)
        rejection = None
        try:
            self.check_in(metadata, is_stream=True)
        except FerserveError as error:
            rejection = error
        trace = None if self._tracer is None else self._tracer.begin_stream(operation, metadata)
        return OpenStream(self, method, rejection, trace)

    def stream(
        self,
        method: str,
        handle: Callable[[AsyncIterator[Request], Context], AsyncGenerator[Response, None]],
        *,
        service: str,
        length: Callable[[Request], int] | None = _protobuf_length,
    ) -> Callable[[AsyncIterator[Request], Context], AsyncGenerator[Response, None]]:
        """Wraps the handler of a bidirectional RPC.

        Args:
            method: Its name.
            handle: Answers its messages.
            service: Full name of its service.
            length: Tells the bytes of a message; None if `handle` rejects long ones itself.
        """
        operation = Operation.rpc(service, method)

        async def run(requests: AsyncIterator[Request], context: Context) -> AsyncGenerator[Response, None]:
            self.opened(method)
            if self._tracer is not None:  # until the end of the call's own Task
                metadata = context.invocation_metadata() or ()
                current_stream.set(self._tracer.begin_stream(operation, metadata))
            code = OK
            rejection: FerserveError | None = None
            try:
                self.check_in(context.invocation_metadata() or (), is_stream=True)
                checked = self._checked(requests, length) if length else requests
                async with contextlib.aclosing(handle(checked, context)) as answers:
                    async for answer in answers:
                        yield answer
            except (asyncio.CancelledError, GeneratorExit) as error:
                code = _code_of_cancelled(error, context.time_remaining())
                raise
            except Exception as error:  # noqa: BLE001 - as above
                rejection = known(method, error)
                code = code_of(rejection).name
            finally:
                self.ended(method, code, None)
                if rejection is None:
                    self.closed()
            if rejection is not None:
                await self._reject(context, rejection)

        return run

    async def _checked(
        self, requests: AsyncIterator[Request], length: Callable[[Request], int]
    ) -> AsyncIterator[Request]:
        async for request in requests:
            check_readable(request)
            self._limits.check_message(length(request))
            yield request

    async def _reject(self, context: Context, rejection: FerserveError) -> None:
        """Sends the status of a failed call, and only then releases it; raises gRPC's AbortError."""
        try:
            trailers = tuple(trailers_of(rejection))
            await context.abort(code_of(rejection), rejection.message, trailing_metadata=trailers)
        finally:
            self.closed()
