"""Starts, monitors and stops one worker process.

The primary process serves it through a handler and kills it when it hangs: when it has not ended and sends no
heartbeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from ferserve_server.ipc.channel import Channel, ChannelClosedError
from ferserve_server.ipc.child_process import Child
from ferserve_server.ipc.framed_channel import MESSAGE_BYTES
from ferserve_server.ipc.shared_memory import SharedBlock, SlotLayout
from ferserve_server.runtime.process_output import child_stderr
from ferserve_server.workers import connection_passing
from ferserve_server.workers.handler import WorkerHandler
from ferserve_server.workers.rpc_channel import RpcChannel

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.models import Acquire
    from ferserve_server.workers.rpc_channel import News, Questions


_GRACE_S: Final = 2.0
"""Maximum time for a worker process to end, in seconds, because it ends within ms after its channel closes."""


class WorkerStartError(Exception):
    """Reports that a worker process ended before it listened; the text says why."""


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """Configures how worker processes are started and served.

    Attributes:
        module: Python module that a worker process runs.
        settings: Its initial settings, as JSON.
        memory_bytes: Memory shared with each, for the faces in flight.
        acquire: Hands out leases.
        resize: See `WorkerHandler`.
        returned: See `connection_passing.ConnectionSender`.
    """

    module: str
    settings: dict[str, Any]
    memory_bytes: int
    acquire: Acquire
    resize: Callable[[CropBatch], CropBatch]
    returned: Callable[[socket.socket], None]


def layout_of(memory_bytes: int) -> SlotLayout:
    """Returns the layout of a worker process's shared memory: one block, divided by `BlockAllocator`."""
    return SlotLayout(1, memory_bytes, 0)


class WorkerProcess:
    """Runs one worker process. Event loop only.

    Attributes:
        listening: Done when it accepts calls; fails with `WorkerStartError` if it ends before.
        drained: Done when all accepted calls are answered: True if in time; False if late or if it ends before.
        ended: Set when it has ended.
    """

    def __init__(
        self, plan: WorkerPlan, news: News, questions: Questions, before_answer: Callable[[], None]
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
        self._conversation: RpcChannel | None = None
        self._desk: WorkerHandler | None = None
        self._handing_over: connection_passing.ConnectionSender | None = None

    @property
    def pid(self) -> int:
        """Returns its process id, 0 before it is started."""
        return self._child.pid if self._child else 0

    @property
    def face_count(self) -> int:
        """Returns the number of its unanswered faces."""
        return self._desk.face_count if self._desk else 0

    @property
    def takes_connections(self) -> bool:
        """Returns whether it accepts calls now and is not draining."""
        return self.listening.done() and not self.drained.done() and not self.ended.is_set()

    @property
    def connection_count(self) -> int:
        """Returns the number of connections that it has or is about to get."""
        return self._handing_over.count if self._handing_over else 0

    def hand_over(self, accepted: socket.socket) -> bool:
        """Passes it a connection; returns False if it accepts none, in which case the caller keeps the socket."""
        return self._handing_over is not None and self._handing_over.hand_over(accepted)

    @property
    def heard_count(self) -> int:
        """Returns the number of messages received from it so far, of any kind."""
        return self._conversation.heard_count if self._conversation else 0

    async def start(self, state: object) -> None:
        """Starts the process and sends its settings and the `state` of the models; it reports when it listens.

        Raises:
            OSError: The system cannot start another process.
        """
        block = SharedBlock.create(layout_of(self._plan.memory_bytes))
        try:
            memory = block.faces(0, (self._plan.memory_bytes,))
            ours, theirs = Channel.pair(MESSAGE_BYTES)
            way_in, way_out = Channel.pair(connection_passing.MESSAGE_BYTES)
            handing_over = self._handing_over = connection_passing.ConnectionSender(way_in, self._plan.returned)
            try:
                facts: dict[str, object] = {"process": "worker"}
                with child_stderr(facts) as stderr:
                    framed = ("framed",) if stderr is not None else ()
                    ends = (theirs, way_out)
                    self._child = await asyncio.to_thread(Child, self._plan.module, framed, ends, stderr)
                facts["pid"] = self._child.pid
                with contextlib.suppress(ChannelClosedError):  # it has ended, which the read reports
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
        self._conversation = RpcChannel(
            ours,
            score_message=self._score_message,
            news=news,
            questions=self._questions,
            closed=self._closed,
        )
        self._desk = WorkerHandler(
            self._plan.acquire,
            memory,
            self._conversation.post,
            resize=self._plan.resize,
            before_answer=self._before_answer,
        )
        self.tell("begin", {"settings": self._plan.settings, "state": state})

    def tell(self, name: str, value: object) -> None:
        """Sends it a notification; does nothing after it has ended."""
        if self._conversation is not None and not self.ended.is_set():
            self._conversation.tell(name, value)

    async def told(self) -> None:
        """Waits until it has applied all notifications so far, or has ended."""
        if self._conversation is not None and not self.ended.is_set():
            with contextlib.suppress(ConnectionError):
                await self._conversation.ask("told", None)

    def kill(self, why: str) -> None:
        """Kills it at once and drops its requests from the queues. `end` reports the cause. Does not wait."""
        self._fault = why
        if self._child is not None:
            self._child.kill()
        self._closed()

    async def end(self) -> str:
        """Ends it, if it has not ended, and describes how it ended. Its requests are dropped from the queues."""
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
        """Has others serve the connections that it has not accepted. It counts as unavailable by then."""
        if self._handing_over is not None:
            self._handing_over.close()

    def _failed(self, text: str) -> None:
        self._fault = text
        self._settle_error(WorkerStartError(text))
        self._closed()  # it waits to be ended

    def _closed(self) -> None:
        if self.ended.is_set():
            return
        self.ended.set()
        if self._desk is not None:
            self._desk.close()
        self._settle_error(WorkerStartError("a worker process ended before it listened"))
        self._settle(self.drained, False)
        self._take_back()

    def _settle_error(self, error: WorkerStartError) -> None:
        if not self.listening.done():
            self.listening.set_exception(error)
            with contextlib.suppress(WorkerStartError):
                self.listening.exception()  # possibly nobody awaits it

    @staticmethod
    def _settle(future: asyncio.Future[Any], value: object) -> None:
        if not future.done():
            future.set_result(value)


log = structlog.get_logger(__name__)

BEAT_S: Final = 1.0
"""Interval at which a worker process is asked for a heartbeat, in seconds."""

LONGEST_SILENCE_BEATS: Final = 10
"""Maximum number of missed heartbeats, because nothing on a worker's event loop takes seconds, and on a loaded
machine a process waits less than this for a core."""

LONGEST_START_S: Final = 120.0
"""Maximum time until a worker process listens, in seconds; it imports for 2 s on an idle core."""


class Heartbeat:
    """Counts the heartbeats missed by a worker process. Pure.

    Beats of the primary process are counted, not seconds: a primary process that was itself suspended, in a paused
    container or on a sleeping machine, has counted none meanwhile, and does not take a worker that was suspended
    with it for hung.

    Attributes:
        silent_beats: Beats without a message from the worker process.
    """

    def __init__(self) -> None:
        self.silent_beats = 0
        self._heard_count = 0

    def beat(self, heard_count: int, *, listens: bool) -> bool:
        """Counts a beat; returns whether the process hangs.

        Args:
            heard_count: Number of messages received from it so far.
            listens: True if it has got so far as to accept calls.
        """
        self.silent_beats = 0 if heard_count != self._heard_count else self.silent_beats + 1
        self._heard_count = heard_count
        return self.silent_beats >= (LONGEST_SILENCE_BEATS if listens else LONGEST_START_S / BEAT_S)


async def watch_process(front: WorkerProcess, beat_s: float = BEAT_S) -> None:
    """Waits until a worker process has ended; kills one that hangs."""
    loop = asyncio.get_running_loop()
    heartbeat = Heartbeat()
    question: asyncio.Task[None] | None = None
    while not front.ended.is_set():
        if heartbeat.beat(front.heard_count, listens=front.listening.done()):
            silent_s = heartbeat.silent_beats * beat_s
            log.error("worker process hangs; it is killed", pid=front.pid, silent_s=silent_s)
            front.kill(f"it hung for {silent_s:g} s and was killed")
            return
        if question is None or question.done():
            question = loop.create_task(front.told())  # any message counts; it may have nothing else to send
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(beat_s):
                await front.ended.wait()
