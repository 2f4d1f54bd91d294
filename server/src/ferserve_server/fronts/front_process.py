"""One front process, as the owner of the models sees it: started, served, and gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ferserve_server.fronts import handover
from ferserve_server.fronts.conversation import Conversation
from ferserve_server.fronts.desk import FrontDesk
from ferserve_server.fronts.mailbox import MESSAGE_BYTES
from ferserve_server.interprocess.channel import Channel, ChannelClosedError
from ferserve_server.interprocess.child import Child
from ferserve_server.interprocess.memory import SharedBlock, SlotLayout
from ferserve_server.telemetry.process_output import child_stderr

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.models import Acquire
    from ferserve_server.fronts.conversation import News, Questions

_GRACE_S: Final = 2.0
"""A front process that is told to end by closing its channel ends within milliseconds."""


class FrontStartError(Exception):
    """A front process ended before it listened; the text says why."""


@dataclass(frozen=True, slots=True)
class FrontPlan:
    """How front processes are started, and what they are served with.

    Attributes:
        module: Python module that a front process runs.
        settings: What it is told to begin with, as JSON.
        memory_bytes: Memory shared with each, for the faces that are on their way.
        acquire: Hands out leases.
        resize: See `FrontDesk`.
        returned: See `handover.HandingOver`.
    """

    module: str
    settings: dict[str, Any]
    memory_bytes: int
    acquire: Acquire
    resize: Callable[[CropBatch], CropBatch]
    returned: Callable[[socket.socket], None]


def layout_of(memory_bytes: int) -> SlotLayout:
    """The shared memory of a front process: one piece, divided by `Arena`."""
    return SlotLayout(1, memory_bytes, 0)


class FrontProcess:
    """Event loop only.

    Attributes:
        listening: Done when it takes calls in; fails with `FrontStartError` if it ends before.
        drained: Done when it has answered all it took, with whether it was in time; False if it ends before.
        ended: Set when it is gone.
    """

    def __init__(
        self, plan: FrontPlan, news: News, questions: Questions, before_answer: Callable[[], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        self._plan = plan
        self._news = news
        self._questions = questions
        self._before_answer = before_answer
        self.listening: asyncio.Future[None] = loop.create_future()
        self.drained: asyncio.Future[bool] = loop.create_future()
        self.ended = asyncio.Event()
        self._fault = ""
        self._child: Child | None = None
        self._conversation: Conversation | None = None
        self._desk: FrontDesk | None = None
        self._handing_over: handover.HandingOver | None = None

    @property
    def pid(self) -> int:
        """Its process id, 0 before it is started."""
        return self._child.pid if self._child else 0

    @property
    def face_count(self) -> int:
        """Its faces that are not answered."""
        return self._desk.face_count if self._desk else 0

    @property
    def takes_connections(self) -> bool:
        """Whether it takes calls in, and goes on to."""
        return self.listening.done() and not self.drained.done() and not self.ended.is_set()

    @property
    def connection_count(self) -> int:
        """Connections that it has, or is about to get."""
        return self._handing_over.count if self._handing_over else 0

    def hand_over(self, accepted: socket.socket) -> bool:
        """Gives it a connection; False: it takes none, and the socket is still the caller's."""
        return self._handing_over is not None and self._handing_over.hand_over(accepted)

    @property
    def heard_count(self) -> int:
        """How often it was heard so far, whatever it said."""
        return self._conversation.heard_count if self._conversation else 0

    async def start(self, state: object) -> None:
        """Starts the process and tells it its settings and the `state` of the models; it will say when it listens.

        Raises:
            OSError: The system cannot start another process.
        """
        block = SharedBlock.create(layout_of(self._plan.memory_bytes))
        try:
            memory = block.faces(0, (self._plan.memory_bytes,))
            ours, theirs = Channel.pair(MESSAGE_BYTES)
            way_in, way_out = Channel.pair(handover.MESSAGE_BYTES)
            handing_over = self._handing_over = handover.HandingOver(way_in, self._plan.returned)
            try:
                facts: dict[str, object] = {"process": "worker"}
                with child_stderr(facts) as stderr:
                    framed = ("framed",) if stderr is not None else ()
                    ends = (theirs, way_out)
                    self._child = await asyncio.to_thread(Child, self._plan.module, framed, ends, stderr)
                facts["pid"] = self._child.pid
                with contextlib.suppress(ChannelClosedError):  # it has ended already: told when it is read
                    ours.send(json.dumps({"memory_bytes": self._plan.memory_bytes}).encode(), [block.fd])
            except BaseException:
                ours.close()
                handing_over.close()
                raise
        finally:
            block.close()  # `memory` keeps it mapped
        news: News = {
            **self._news,
            "listening": lambda _: self._settle(self.listening, None),
            "failed": self._failed,
            "drained": self._drained,
            "connections": lambda counts: handing_over.told(*counts),
        }
        self._conversation = Conversation(
            ours,
            score_message=self._score_message,
            news=news,
            questions=self._questions,
            closed=self._closed,
        )
        self._desk = FrontDesk(
            self._plan.acquire,
            memory,
            self._conversation.post,
            resize=self._plan.resize,
            before_answer=self._before_answer,
        )
        self.tell("begin", {"settings": self._plan.settings, "state": state})

    def tell(self, name: str, value: object) -> None:
        """Sends it news; nothing happens when it is gone."""
        if self._conversation is not None and not self.ended.is_set():
            self._conversation.tell(name, value)

    async def told(self) -> None:
        """Returns when it has taken in all news so far, or is gone."""
        if self._conversation is not None and not self.ended.is_set():
            with contextlib.suppress(ConnectionError):
                await self._conversation.ask("told", None)

    def kill(self, why: str) -> None:
        """Ends it at once, whatever it does; its requests leave the queues. `end` will tell why. Does not wait."""
        self._fault = why
        if self._child is not None:
            self._child.kill()
        self._closed()

    async def end(self) -> str:
        """Ends it, if it has not ended, and tells how it did. Its requests leave the queues."""
        self._closed()
        if self._conversation is not None:
            self._conversation.close()
        if self._child is None:
            return "not started"
        await asyncio.to_thread(self._child.end, _GRACE_S)
        return self._fault or self._child.describe_end()

    def _score_message(self, message: bytes) -> None:
        if self._desk is not None:
            self._desk.score_message(message)

    def _drained(self, in_time: bool) -> None:
        self._settle(self.drained, in_time)
        self._take_back()

    def _take_back(self) -> None:
        """Has others serve the connections that it has not taken. It counts as one that takes none by then."""
        if self._handing_over is not None:
            self._handing_over.close()

    def _failed(self, text: str) -> None:
        self._fault = text
        self._settle_error(FrontStartError(text))
        self._closed()  # it waits to be ended

    def _closed(self) -> None:
        if self.ended.is_set():
            return
        self.ended.set()
        if self._desk is not None:
            self._desk.close()
        self._settle_error(FrontStartError("a front process ended before it listened"))
        self._settle(self.drained, False)
        self._take_back()

    def _settle_error(self, error: FrontStartError) -> None:
        if not self.listening.done():
            self.listening.set_exception(error)
            with contextlib.suppress(FrontStartError):
                self.listening.exception()  # nobody may be waiting for it

    @staticmethod
    def _settle(future: asyncio.Future[Any], value: object) -> None:
        if not future.done():
            future.set_result(value)
