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
    from ferserve_server.workers.rpc_channel import NotificationHandlers, RequestHandlers


_GRACE_S: Final = 2.0
"""Maximum time for a worker process to end, in seconds, because it ends within ms after its channel closes."""

_TRACING_PREFIXES: Final = ("OTEL_",)
"""Variables of OpenTelemetry: where to export spans, and how. They may hold a token of the collector."""


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
        self,
        plan: WorkerPlan,
        notification_handlers: NotificationHandlers,
        request_handlers: RequestHandlers,
        before_answer: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._plan = plan
        self._notification_handlers = notification_handlers
        self._request_handlers = request_handlers
        self._before_answer = before_answer
        self.listening: asyncio.Future[None] = loop.create_future()
        self.drained: asyncio.Future[bool] = loop.create_future()
        self.ended = asyncio.Event()
        self._fault = ""
        self._child: Child | None = None
        self._rpc: RpcChannel | None = None
        self._handler: WorkerHandler | None = None
        self._connection_sender: connection_passing.ConnectionSender | None = None

    @property
    def pid(self) -> int:
        """Returns its process id, 0 before it is started."""
        return self._child.pid if self._child else 0

    @property
    def face_count(self) -> int:
        """Returns the number of its unanswered faces."""
        return self._handler.face_count if self._handler else 0

    @property
    def takes_connections(self) -> bool:
        """Returns whether it accepts calls now and is not draining."""
        return self.listening.done() and not self.drained.done() and not self.ended.is_set()

    @property
    def connection_count(self) -> int:
        """Returns the number of connections that it has or is about to get."""
        return self._connection_sender.count if self._connection_sender else 0

    def pass_connection(self, accepted: socket.socket) -> bool:
        """Passes it a connection; returns False if it accepts none, in which case the caller keeps the socket."""
        return self._connection_sender is not None and self._connection_sender.pass_connection(accepted)

    @property
    def received_count(self) -> int:
        """Returns the number of messages received from it so far, of any kind."""
        return self._rpc.received_count if self._rpc else 0

    async def start(self, state: object) -> None:
        """Starts the process and sends its settings and the `state` of the models; it reports when it listens.

        Raises:
            OSError: The system cannot start another process.
        """
        block = SharedBlock.create(layout_of(self._plan.memory_bytes))
        try:
            memory = block.faces(0, (self._plan.memory_bytes,))
            ours, theirs = Channel.pair(MESSAGE_BYTES)
            connections_out, connections_in = Channel.pair(connection_passing.MESSAGE_BYTES)
            connection_sender = self._connection_sender = connection_passing.ConnectionSender(
                connections_out, self._plan.returned
            )
            try:
                facts: dict[str, object] = {"process": "worker"}
                with child_stderr(facts) as stderr:
                    framed = ("framed",) if stderr is not None else ()
                    ends = (theirs, connections_in)
                    self._child = await asyncio.to_thread(
                        Child, self._plan.module, framed, ends, stderr, _TRACING_PREFIXES
                    )
                facts["pid"] = self._child.pid
                with contextlib.suppress(ChannelClosedError):  # it has ended, which the read reports
                    ours.send(json.dumps({"memory_bytes": self._plan.memory_bytes}).encode(), [block.fd])
            except BaseException:
                ours.close()
                connection_sender.close()
                raise
        finally:
            block.close()  # `memory` keeps it mapped
        notification_handlers: NotificationHandlers = {
            **self._notification_handlers,
            "listening": lambda _: self._settle(self.listening, None),
            "failed": self._failed,
            "drained": self._drained,
            "connections": lambda counts: connection_sender.update_counts(*counts),
        }
        self._rpc = RpcChannel(
            ours,
            score_message=self._score_message,
            notification_handlers=notification_handlers,
            request_handlers=self._request_handlers,
            closed=self._closed,
        )
        self._handler = WorkerHandler(
            self._plan.acquire,
            memory,
            self._rpc.post,
            resize=self._plan.resize,
            before_answer=self._before_answer,
        )
        self.notify("begin", {"settings": self._plan.settings, "state": state})

    def notify(self, name: str, value: object) -> None:
        """Sends it a notification; does nothing after it has ended."""
        if self._rpc is not None and not self.ended.is_set():
            self._rpc.notify(name, value)

    async def sync(self) -> None:
        """Waits until it has applied all notifications so far, or has ended."""
        if self._rpc is not None and not self.ended.is_set():
            with contextlib.suppress(ConnectionError):
                await self._rpc.call("sync", None)

    def kill(self, why: str) -> None:
        """Kills it at once and drops its requests from the queues. `end` reports the cause. Does not wait."""
        self._fault = why
        if self._child is not None:
            self._child.kill()
        self._closed()

    async def end(self) -> str:
        """Ends it, if it has not ended, and describes how it ended. Its requests are dropped from the queues."""
        self._closed()
        if self._rpc is not None:
            self._rpc.close()
        if self._child is None:
            return "not started"
        await asyncio.to_thread(self._child.end, _GRACE_S)
        return self._fault or self._child.describe_end()

    def _score_message(self, message: bytes) -> None:
        if self._handler is not None:
            self._handler.score_message(message)

    def _drained(self, in_time: bool) -> None:
        self._settle(self.drained, in_time)
        self._reclaim_connections()

    def _reclaim_connections(self) -> None:
        """Has others serve the connections that it has not accepted. It counts as unavailable by then."""
        if self._connection_sender is not None:
            self._connection_sender.close()

    def _failed(self, text: str) -> None:
        self._fault = text
        self._settle_error(WorkerStartError(text))
        self._closed()  # it waits to be ended

    def _closed(self) -> None:
        if self.ended.is_set():
            return
        self.ended.set()
        if self._handler is not None:
            self._handler.close()
        self._settle_error(WorkerStartError("a worker process ended before it listened"))
        self._settle(self.drained, False)
        self._reclaim_connections()

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

HEARTBEAT_INTERVAL_S: Final = 1.0
"""Interval at which a worker process is asked for a heartbeat, in seconds."""

MAX_MISSED_BEATS: Final = 10
"""Maximum number of missed heartbeats, because nothing on a worker's event loop takes seconds, and on a loaded
machine a process waits less than this for a core."""

MAX_START_S: Final = 120.0
"""Maximum time until a worker process listens, in seconds; it imports for 2 s on an idle core."""


class Heartbeat:
    """Counts the heartbeats missed by a worker process. Pure.

    Beats of the primary process are counted, not seconds: a primary process that was itself suspended, in a paused
    container or on a sleeping machine, has counted none meanwhile, and does not take a worker that was suspended
    with it for hung.

    Attributes:
        missed_beats: Beats without a message from the worker process.
    """

    def __init__(self) -> None:
        self.missed_beats = 0
        self._received_count = 0

    def beat(self, received_count: int, *, listens: bool) -> bool:
        """Counts a beat; returns whether the process hangs.

        Args:
            received_count: Number of messages received from it so far.
            listens: True if it has got so far as to accept calls.
        """
        self.missed_beats = 0 if received_count != self._received_count else self.missed_beats + 1
        self._received_count = received_count
        return self.missed_beats >= (MAX_MISSED_BEATS if listens else MAX_START_S / HEARTBEAT_INTERVAL_S)


async def watch_process(worker: WorkerProcess, beat_s: float = HEARTBEAT_INTERVAL_S) -> None:
    """Waits until a worker process has ended; kills one that hangs."""
    loop = asyncio.get_running_loop()
    heartbeat = Heartbeat()
    heartbeat_call: asyncio.Task[None] | None = None
    while not worker.ended.is_set():
        if heartbeat.beat(worker.received_count, listens=worker.listening.done()):
            silent_s = heartbeat.missed_beats * beat_s
            log.error("worker process hangs; it is killed", pid=worker.pid, silent_s=silent_s)
            worker.kill(f"it hung for {silent_s:g} s and was killed")
            return
        if heartbeat_call is None or heartbeat_call.done():
            heartbeat_call = loop.create_task(
                worker.sync()
            )  # any message counts; it may have nothing else to send
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(beat_s):
                await worker.ended.wait()
