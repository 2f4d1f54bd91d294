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

    NotificationHandlers = Mapping[str, Callable[[Json], None]]
    RequestHandlers = Mapping[str, Callable[[Json], Awaitable[object]]]

log = structlog.get_logger(__name__)

TEXT: Final = b"\x20"
"""First byte of a message that is JSON. Those of `score_messages` have smaller ones."""


class RpcChannel:
    """Represents one side of the channel. Event loop only.

    Args of the constructor:
        channel: See `FramedChannel`.
        score_message: Gets the messages of requests.
        notification_handlers: Handlers of notifications, by name; must not raise.
        request_handlers: Handlers of requests, by name. They continue when the other side has closed.
        closed: Called once, when the other side has closed.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        score_message: Callable[[bytes], None],
        notification_handlers: NotificationHandlers,
        request_handlers: RequestHandlers,
        closed: Callable[[], None],
    ) -> None:
        self._score_message = score_message
        self._notification_handlers = notification_handlers
        self._request_handlers = request_handlers
        self._closed = closed
        self._pending_calls: dict[int, asyncio.Future[Any]] = {}
        self._last_number = 0
        self._answering: set[asyncio.Task[None]] = set()
        self._framed_channel = FramedChannel(channel, self._received, self._ended)
        self.post = self._framed_channel.post
        self.flush = self._framed_channel.flush

    @property
    def received_count(self) -> int:
        """Returns the number of messages received so far."""
        return self._framed_channel.received_count

    def notify(self, name: str, value: object) -> None:
        """Sends a notification; `value` is JSON."""
        self._send_document({"notify": name, "value": value})

    async def call(self, name: str, value: object) -> Json:
        """Sends a request and returns its answer. All notifications sent before it have been applied by then.

        Raises:
            FerserveError: The other side's.
            ConnectionError: The other side has closed.
        """
        self._last_number += 1
        number = self._last_number
        future = self._pending_calls[number] = asyncio.get_running_loop().create_future()
        self._send_document({"call": name, "number": number, "value": value})
        try:
            return await future
        finally:
            self._pending_calls.pop(number, None)

    def close(self) -> None:
        """Closes the channel."""
        self._framed_channel.close()
        self._fail_pending_calls()

    def _send_document(self, document: dict[str, object]) -> None:
        self._framed_channel.post(TEXT + write_text(document).encode())

    def _received(self, message: bytes) -> None:
        if message[:1] != TEXT:
            self._score_message(message)
            return
        document = json.loads(message[1:])
        if "notify" in document:
            self._notification_handlers[document["notify"]](document["value"])
        elif "call" in document:
            task = asyncio.get_running_loop().create_task(self._answer(document))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif (future := self._pending_calls.get(document["answer"])) is not None and not future.done():
            if "error" in document:
                future.set_exception(read_error(document["error"]))
            else:
                future.set_result(document["value"])

    async def _answer(self, document: Mapping[str, Any]) -> None:
        answer: dict[str, object] = {"answer": document["number"]}
        try:
            answer["value"] = await self._request_handlers[document["call"]](document["value"])
        except FerserveError as error:
            answer["error"] = write_error(error)
        except Exception:
            log.exception("call of a worker process failed", call=document["call"])
            answer["error"] = write_error(FerserveError("The server failed on this call. Its log tells more."))
        self._send_document(answer)

    def _ended(self) -> None:
        self._fail_pending_calls()
        self._closed()

    def _fail_pending_calls(self) -> None:
        for future in self._pending_calls.values():
            if not future.done():
                future.set_exception(ConnectionError("the other process has ended"))
