"""ModelStreamInfer: every request gets exactly one answer, in order."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from ferserve_server.domain.errors import DrainingError, FerserveError
from ferserve_server.pipeline.ordered import OrderedAnswers
from ferserve_server.pipeline.outcome import outcome_of
from ferserve_server.transport.compat.messages import message_class

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from ferserve_server.transport.compat.messages import Message

_RESPONSE = message_class("inference.ModelStreamInferResponse")


class InferStream:
    """One open stream of inference requests. Event loop only; made for one call.

    Args of the constructor:
        infer: Answers one request.
        max_unanswered: Bound on the answers that are due, 1 or more.
        draining: Set when nothing new may be taken.
        strict: Whether an error ends the stream with its status. Else it is told in the answer to its request,
            beside that request's id, and the stream goes on.
    """

    def __init__(
        self,
        infer: Callable[[Message], Awaitable[Message]],
        *,
        max_unanswered: int,
        draining: asyncio.Event,
        strict: bool,
    ) -> None:
        self._infer = infer
        self._strict = strict
        self._answers = OrderedAnswers(self._begin, max_unanswered=max_unanswered, draining=draining)

    async def run(self, requests: AsyncIterator[Message]) -> AsyncGenerator[Message, None]:
        """Yields a ModelStreamInferResponse for each request.

        Raises:
            FerserveError: That of the first request that failed, if `strict`.
            DrainingError: The server goes down before the sender is done. What was taken is answered first.
        """
        async with contextlib.aclosing(self._answers.run(requests)) as answers:
            async for request_id, outcome in answers:
                if not isinstance(outcome, FerserveError):
                    yield _RESPONSE(infer_response=outcome)
                elif self._strict:
                    raise outcome
                else:
                    response = _RESPONSE(error_message=outcome.message)
                    response.infer_response.id = request_id
                    yield response
        if self._answers.cut_short:
            raise DrainingError

    def _begin(self, request: Message) -> asyncio.Future[tuple[str, Message | FerserveError]]:
        return asyncio.get_running_loop().create_task(self._run_one(request))

    async def _run_one(self, request: Message) -> tuple[str, Message | FerserveError]:
        return request.id, await outcome_of(self._infer(request))
