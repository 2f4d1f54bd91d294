"""Makes calls on the event loop. `calls` makes the same for blocking code."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from ferserve_client.aio_status import StatusWatch
from ferserve_client.deadlines import grpc_timeout
from ferserve_client.error_table import error_of
from ferserve_client.errors import ErrorFacts
from ferserve_client.flow_control import checked_limit
from ferserve_client.retry import RetryPolicy, Tries
from ferserve_client.tracing import trace_arguments
from ferserve_client.wire.status import read_call_error, read_stream_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator

AnswerT = TypeVar("AnswerT")
ItemT = TypeVar("ItemT")


async def call_unary(method: Callable[..., Any], request: object, *, timeout_s: float, policy: RetryPolicy) -> Any:  # noqa: ANN401 - stubs are untyped
    """Make one unary call, with the tries that the policy allows, before its deadline.

    Raises:
        FerserveError: The last try failed.
        ValueError: `timeout_s` is not above 0.
    """
    tries = Tries(policy, timeout_s, time.monotonic, random.random)
    while True:
        try:
            with _closed_call_is_an_error():
                return await method(request, timeout=grpc_timeout(tries.begin()), **trace_arguments())
        except grpc.RpcError as rpc_error:
            await asyncio.sleep(tries.wait_after(read_call_error(rpc_error)))


async def exchange(
    method: Callable[..., Any],
    requests: AsyncIterator[object],
    read: Callable[[Any], AnswerT],
    *,
    first: object | None,
    max_unanswered: int,
    timeout_s: float | None,
) -> AsyncGenerator[AnswerT, None]:
    """Send requests and yield their answers, with at most `max_unanswered` of them on the way.

    The requests are drawn by a task. What `requests` raises is raised here, after the answers to what
    was sent before. Closing the generator cancels the call and the task.

    Args:
        method: The stream call.
        requests: The messages, each of which gets one answer.
        read: Makes an answer of a response.
        first: A message that is sent before the others and gets no answer.
        max_unanswered: Requests that may be unanswered at once, 1 or more.
        timeout_s: Seconds that the whole stream may take. None: no deadline.

    Raises:
        FerserveError: The call failed as a whole.
        ValueError: `max_unanswered` is below 1.
    """
    window = asyncio.Semaphore(checked_limit(max_unanswered))
    call = method(timeout=grpc_timeout(timeout_s), **trace_arguments())
    status = StatusWatch(call)
    sender = asyncio.create_task(_send(call, requests, first, window))
    last_sequence_id: int | None = None
    try:
        with _closed_call_is_an_error():
            # Not `call.read()`: once a write has failed, that rejects the answers which are still there.
            async for response in call:
                window.release()
                last_sequence_id = response.sequence_id
                yield read(response)
    except grpc.RpcError as rpc_error:
        raise read_stream_error(await status.true_error(rpc_error), last_sequence_id) from rpc_error
    finally:
        call.cancel()
        sender.cancel()
        await asyncio.wait([sender])
    if not sender.cancelled() and (error := sender.result()) is not None:
        raise error


async def iterate(items: AsyncIterable[ItemT] | Iterable[ItemT]) -> AsyncIterator[ItemT]:
    """Yield the items one by one. Those of a blocking iterable hold up the loop while they are made."""
    if hasattr(items, "__aiter__"):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def _send(
    call: Any,  # noqa: ANN401 - stubs are untyped
    requests: AsyncIterator[object],
    first: object | None,
    window: asyncio.Semaphore,
) -> Exception | None:
    error: Exception | None = None
    try:
        if first is not None:
            await call.write(first)
        while True:
            # The window comes before the frame, so that a camera's frame is fresh when it is sent.
            await window.acquire()
            try:
                request = await anext(requests)
            except StopAsyncIteration:
                break
            except Exception as source_error:  # noqa: BLE001 - whatever it is, the receiver raises it
                error = source_error
                break
            await call.write(request)
        await call.done_writing()
    except (grpc.RpcError, asyncio.InvalidStateError):
        pass  # the call is over; the receiver reads why
    return error


@contextlib.contextmanager
def _closed_call_is_an_error() -> Iterator[None]:
    # grpc.aio says CancelledError for a call that was closed under the caller, as by closing the
    # client. That must not look as if the caller's own task was cancelled.
    try:
        yield
    except asyncio.CancelledError as cancelled:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        message = "the client was closed while the call ran"
        raise error_of(ErrorFacts(grpc.StatusCode.CANCELLED, message=message)) from cancelled
