"""Exchanges requests, answers and notifications between worker and primary process, beside score messages."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

import structlog

from ferserve_server.domain.errors import FerserveError
from ferserve_server.ipc.framed_channel import FramedChannel
from ferserve_server.workers.json_codec import read_error, write_error, write_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ferserve_server.ipc.channel import Channel
    from ferserve_server.workers.json_codec import Json

    News = Mapping[str, Callable[[Json], None]]
    Questions = Mapping[str, Callable[[Json], Awaitable[object]]]

log = structlog.get_logger(__name__)

TEXT: Final = b"\x20"
"""First byte of a message that is JSON. Those of `score_messages` have smaller ones."""


class RpcChannel:
    """Represents one side of the channel. Event loop only.

    Args of the constructor:
        channel: See `FramedChannel`.
        score_message: Gets the messages of requests.
        news: Handlers of notifications, by name; must not raise.
        questions: Handlers of requests, by name. They continue when the other side has closed.
        closed: Called once, when the other side has closed.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        score_message: Callable[[bytes], None],
        news: News,
        questions: Questions,
        closed: Callable[[], None],
    ) -> None:
        self._score_message = score_message
        self._news = news
        self._questions = questions
        self._closed = closed
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._last_number = 0
        self._answering: set[asyncio.Task[None]] = set()
        self._mailbox = FramedChannel(channel, self._received, self._ended)
        self.post = self._mailbox.post
        self.flush = self._mailbox.flush

    @property
    def heard_count(self) -> int:
        """Returns how often the other side was heard so far."""
        return self._mailbox.heard_count

    def tell(self, name: str, value: object) -> None:
        """Sends a notification; `value` is JSON."""
        self._say({"tell": name, "value": value})

    async def ask(self, name: str, value: object) -> Json:
        """Sends a request and returns its answer. All notifications sent before it have been applied by then.

        Raises:
            FerserveError: The other side's.
            ConnectionError: The other side has closed.
        """
        self._last_number += 1
        number = self._last_number
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        self._say({"ask": name, "number": number, "value": value})
        try:
            return await future
        finally:
            self._asked.pop(number, None)

    def close(self) -> None:
        """Closes the channel."""
        self._mailbox.close()
        self._fail_questions()

    def _say(self, document: dict[str, object]) -> None:
        self._mailbox.post(TEXT + write_text(document).encode())

    def _received(self, message: bytes) -> None:
        if message[:1] != TEXT:
            self._score_message(message)
            return
        document = json.loads(message[1:])
        if "tell" in document:
            self._news[document["tell"]](document["value"])
        elif "ask" in document:
            task = asyncio.get_running_loop().create_task(self._answer(document))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif (future := self._asked.get(document["answer"])) is not None and not future.done():
            if "error" in document:
                future.set_exception(read_error(document["error"]))
            else:
                future.set_result(document["value"])

    async def _answer(self, document: Mapping[str, Any]) -> None:
        answer: dict[str, object] = {"answer": document["number"]}
        try:
            answer["value"] = await self._questions[document["ask"]](document["value"])
        except FerserveError as error:
            answer["error"] = write_error(error)
        except Exception:
            log.exception("question of a worker process failed", question=document["ask"])
            answer["error"] = write_error(FerserveError("The server failed on this call. Its log tells more."))
        self._say(answer)

    def _ended(self) -> None:
        self._fail_questions()
        self._closed()

    def _fail_questions(self) -> None:
        for future in self._asked.values():
            if not future.done():
                future.set_exception(ConnectionError("the other process is gone"))
