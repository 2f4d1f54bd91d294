"""Finds the status with which an asyncio stream ended, where grpc.aio forgets it.

When a write fails because the call has just ended, grpc.aio (seen in 1.81) puts INTERNAL, "Internal
error from Core", in the place of the status: before the true one has come, or over it.
Source: https://github.com/grpc/grpc/issues/36066.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

if TYPE_CHECKING:
    from collections.abc import Coroutine

_PLACEHOLDER: Final = "Internal error from Core"

_PATIENCE_S: Final = 0.5
"""The true status comes some milliseconds after the placeholder, or never."""


class StatusWatch:
    """Notes the status of one call whenever grpc.aio sets it. Created before the first write."""

    def __init__(self, call: Any) -> None:  # noqa: ANN401 - stubs are untyped
        self._error: grpc.aio.AioRpcError | None = None
        self._known = asyncio.Event()
        call.add_done_callback(self._note)

    async def true_error(self, error: grpc.RpcError) -> grpc.RpcError:
        """Return the error that ended the call, which is mostly the one that was raised."""
        if error.details() != _PLACEHOLDER:
            return error
        try:
            await asyncio.wait_for(self._known.wait(), _PATIENCE_S)
        except TimeoutError:
            return error
        return self._error or error

    def _note(self, call: Any) -> None:  # noqa: ANN401 - as above
        details = _value_of(call.details())
        if self._error is None and details != _PLACEHOLDER:
            trailers = _value_of(call.trailing_metadata()) or grpc.aio.Metadata()
            self._error = grpc.aio.AioRpcError(_value_of(call.code()), grpc.aio.Metadata(), trailers, details)
            self._known.set()


def _value_of(coroutine: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - as above
    # The status is set when the callback runs, so its coroutines end at once. Awaiting them in a task
    # would be too late: the placeholder may have taken the status' place by then.
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    return None
