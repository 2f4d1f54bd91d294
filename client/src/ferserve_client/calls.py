"""Makes blocking calls. `aio_calls` makes the same for asyncio."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from ferserve_client.deadlines import grpc_timeout
from ferserve_client.flow_control import FlowControlWindow
from ferserve_client.retry import RetryPolicy, Tries
from ferserve_client.tracing import trace_arguments
from ferserve_client.wire.status import read_call_error, read_stream_error

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

AnswerT = TypeVar("AnswerT")


def call_unary(method: Callable[..., Any], request: object, *, timeout_s: float, policy: RetryPolicy) -> Any:  # noqa: ANN401 - stubs are untyped
    """Make one unary call, with the tries that the policy allows, before its deadline.

    Raises:
        FerserveError: The last try failed.
        ValueError: `timeout_s` is not above 0.
    """
    tries = Tries(policy, timeout_s, time.monotonic, random.random)
    while True:
        try:
            return method(request, timeout=grpc_timeout(tries.begin()), **trace_arguments())
        except grpc.RpcError as rpc_error:
            time.sleep(tries.wait_after(read_call_error(rpc_error)))


def exchange(
    method: Callable[..., Any],
    requests: Iterator[object],
    read: Callable[[Any], AnswerT],
    *,
    first: object | None,
    max_unanswered: int,
    timeout_s: float | None,
) -> Generator[AnswerT, None, None]:
    """Send requests and yield their answers, with at most `max_unanswered` of them on the way.

    The requests are drawn from a thread of gRPC's. What `requests` raises is raised here, after the
    answers to what was sent before. Closing the generator cancels the call; the thread then ends as
    soon as `requests` gives back control.

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
    window = FlowControlWindow(max_unanswered)
    outbox = _Outbox(requests, first, window)
    call = method(outbox.messages(), timeout=grpc_timeout(timeout_s), **trace_arguments())
    last_sequence_id: int | None = None
    try:
        if not call.add_callback(window.close):
            window.close()
        for response in call:
            window.release()
            last_sequence_id = response.sequence_id
            yield read(response)
    except grpc.RpcError as rpc_error:
        raise read_stream_error(rpc_error, last_sequence_id) from rpc_error
    finally:
        window.close()
        call.cancel()
    if outbox.error is not None:
        raise outbox.error


class _Outbox:
    """Yields the messages of one stream as the window allows, and keeps the error of their iterator."""

    def __init__(self, requests: Iterator[object], first: object | None, window: FlowControlWindow) -> None:
        self.error: Exception | None = None
        self._requests = requests
        self._first = first
        self._window = window

    def messages(self) -> Iterator[object]:
        if self._first is not None:
            yield self._first
        # The window comes before the frame, so that a camera's frame is fresh when it is sent.
        while self._window.acquire():
            try:
                request = next(self._requests, None)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is raised to the receiver
                self.error = error
                return
            if request is None:
                return
            yield request
