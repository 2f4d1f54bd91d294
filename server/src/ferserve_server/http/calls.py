"""Tracks, counts, drains and rejects calls over HTTP in the same way as those over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from aiohttp import web

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.errors import DeadlineExpiredError, FerserveError
from ferserve_server.domain.trace import Operation
from ferserve_server.http.responses import error_reply
from ferserve_server.services.callers import caller_of_transport, requester_of_transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ferserve_server.http.responses import Reply
    from ferserve_server.services.calls import Calls
    from ferserve_server.services.control_access import Requester

METHOD_PREFIX: Final = "HTTP/"
"""Prefix of the names of methods in the metrics."""


class HttpCalls:
    """Makes handlers of functions from requests to replies. Event loop only."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def handler(
        self, method: str, answer: Callable[[web.Request], Awaitable[Reply]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Wraps the handler of a path.

        Args:
            method: Its name in the metrics, without the prefix.
            answer: Makes the reply; may raise. It is cancelled if the client leaves.
        """

        async def run(request: web.Request) -> web.StreamResponse:
            trace = None
            if self._calls.traces:
                trace = self._calls.begin_trace(_operation(request), request.headers.items())

            async def send(outcome: Reply | FerserveError) -> web.StreamResponse:
                reply = error_reply(outcome) if isinstance(outcome, FerserveError) else outcome
                if trace is not None:
                    trace.set_attribute("http.response.status_code", reply.status)
                # A body that is not read to its end leaves nothing that a next request could begin after.
                last = self._calls.draining.is_set() or not request.content.is_eof()
                return await send_reply(request, reply, last=last)

            return await self._calls.carried(
                METHOD_PREFIX + method, request.headers.items(), lambda: answer(request), send, trace
            )

        return run


def _operation(request: web.Request) -> Operation:
    """Names a request by the template of its path, of which there are few."""
    resource = request.match_info.route.resource
    return Operation.http(request.method, resource.canonical if resource is not None else request.path)


async def send_reply(request: web.Request, reply: Reply, *, last: bool = False) -> web.StreamResponse:
    """Writes a reply to the end.

    Args:
        request: What is answered.
        reply: What to write.
        last: Whether to close the connection after it.
    """
    headers = {"Server": "ferserve", **reply.headers}
    response = web.Response(body=reply.body, status=reply.status, headers=headers, content_type=reply.content_type)
    if last:
        response.force_close()
    with contextlib.suppress(ConnectionError):  # the client left while it was written to
        await response.prepare(request)
        await response.write_eof()
    return response


def caller_of_request(request: web.Request) -> CallerId:
    """Identifies the caller of a request."""
    return UNKNOWN_CALLER if request.transport is None else caller_of_transport(request.transport)


def requester_of_request(request: web.Request) -> Requester:
    """Identifies the caller of a control call."""
    return requester_of_transport(request.transport, request.headers.items())


@contextlib.asynccontextmanager
async def answered_within(timeout_s: float | None) -> AsyncIterator[None]:
    """Cancels the block at the caller's timeout, as gRPC does with its calls.

    Raises:
        DeadlineExpiredError: It took longer than `timeout_s` seconds; None is indefinitely.
    """
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise DeadlineExpiredError from None
