"""Executes batches in an engine process.

When an engine that was lost is brought back. Pure.

Runs batches in an engine process, from the event loop: one message each way, and no threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from ferserve_server.domain.errors import EngineLostError
from ferserve_server.engine.messages import BatchKind, BatchMessage, EngineRaisedError, pack, unpack
from ferserve_server.ipc.channel import ChannelClosedError
from ferserve_server.ipc.shared_memory import FreeSlots
from ferserve_server.scheduler.assembly import BatchOutcome, bucket_for, copy_rows, drop_cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.domain.ports import Clock
    from ferserve_server.engine.loader import EngineServable
    from ferserve_server.engine.process import EngineProcess
    from ferserve_server.scheduler.entry import Batch
    from ferserve_server.scheduler.execution import RunnerListener


_STEADY_S: Final = 60.0
"""An engine that lived this long is not in a crash loop."""

_FIRST_DELAY_S: Final = 0.5
_LONGEST_DELAY_S: Final = 30.0


class RestartBackoff:
    """Counts losses in a row, and says how long to wait before the next try.

    The first loss is met at once: callers wait. After that the pauses double, so that a batch which a caller sends
    again and again, or a machine without memory, does not keep a core busy with starts.
    """

    def __init__(self) -> None:
        self._in_a_row = 0

    def lost(self, lived_s: float) -> float:
        """Notes a loss, and returns the seconds to wait before a new start.

        Args:
            lived_s: How long the engine had answered; 0 for a start that failed.
        """
        self._in_a_row = 1 if lived_s >= _STEADY_S else self._in_a_row + 1
        if self._in_a_row == 1:
            return 0.0
        # The exponent is bounded: 2.0 ** 2000 is an error.
        return min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(self._in_a_row - 2, 10))

    @property
    def crash_looping(self) -> bool:
        """Whether callers had better not wait: it has been lost three times in a row."""
        return self._in_a_row >= 3


log = structlog.get_logger(__name__)


class _Sent(NamedTuple):
    """A batch that the engine has: what is known of it, and where it lies."""

    outcome: BatchOutcome
    slot: int
    row_count: int


class EngineExecutor:
    """Implements `batching.execution.Runner` on an engine process; event loop only, but for `join`.

    Rows are copied once, into the memory that both sides share. The engine takes batches in the order in which
    they were sent, so it is known which of them run; when it is lost these fail, those behind them are sent again
    to the next one. Nothing that ran is run again: it may be what the engine died of.
    """

    def __init__(
        self,
        servable: EngineServable,
        bucket_sizes: Sequence[int],
        clock: Clock,
        listener: RunnerListener,
        *,
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        """Begins to listen to the engine.

        Args:
            servable: What to run; taken over.
            bucket_sizes: Sizes that batches are padded to, rising.
            clock: The time.
            listener: Is told what happens.
            on_restart: Called when the engine was brought back.
        """
        self._servable = servable
        self._engine = servable.engine
        self._bucket_sizes = list(bucket_sizes)
        self._clock = clock
        self._listener = listener
        self._on_restart = on_restart
        self._loop = asyncio.get_running_loop()
        self.thread_count = servable.executor_count
        self.available = False
        self.failing = False
        slots = self._engine.batch_slots
        self._faces = {slot: self._engine.faces(slot) for slot in slots}
        self._scores = {slot: self._engine.scores(slot) for slot in slots}
        self._first_slot, self._free = slots.start, FreeSlots(len(slots))
        self._waiting: deque[Batch] = deque()
        self._sent: dict[int, _Sent] = {}
        self._sequence = 0
        self._process: EngineProcess | None = None
        self._last_process: EngineProcess
        self._since = 0.0
        self._revivals = RestartBackoff()
        self._reviving: asyncio.Task[None] | None = None
        self._closing = self._ending = False
        self._ended = threading.Event()
        self._engine.enter_service(servable.handle, bucket_sizes)
        process = self._engine.process
        if process is None:
            raise EngineLostError(executed=False)  # it was closed: nobody else takes a process away
        self._listen_to(process)

    def submit(self, batch: Batch) -> None:
        """Sends a batch, or keeps it until there is room or an engine."""
        self._waiting.append(batch)
        self._send_waiting()

    def poll(self) -> None:
        """Takes the answers that are there by now."""
        self._read_answers()

    def replace_stalled(self) -> None:
        """Kills the engine: a thread of it that hangs cannot be stopped otherwise."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Ends the engine once what it has is answered. Does not wait."""
        self._closing = True
        if self._reviving is not None:
            self._reviving.cancel()
            self._fail(self._take_waiting())
        self._end_if_done()

    def join(self, timeout_s: float) -> None:
        """Waits, after `close`, until the engine has ended; kills one that does not. Blocking; any thread."""
        if not self._ended.wait(timeout_s):
            log.error("engine killed: it did not end", servable=str(self._servable.id))
            self._last_process.kill()
            self._ended.wait(timeout_s)

    def _send_waiting(self) -> None:
        process = self._process
        while self._waiting and process is not None:
            free = self._free.take()
            if free is None:
                return
            batch, now = self._waiting.popleft(), self._clock.now()
            outcome = BatchOutcome(batch)
            row_count = drop_cancelled(outcome, now)
            if row_count == 0:
                self._free.give_back(free)
                self._loop.call_soon(self._listener.on_batch_done, outcome)
                continue
            slot = self._first_slot + free
            copy_rows(batch, self._faces[slot])
            outcome.padded_count = bucket_for(self._bucket_sizes, row_count)
            self._sequence += 1
            self._sent[self._sequence] = _Sent(outcome, slot, row_count)
            if len(self._sent) <= self.thread_count:
                batch.started_at = now
            message = BatchMessage(
                BatchKind.RUN, slot, self._servable.handle, outcome.padded_count, self._sequence
            )
            try:
                process.batches.send_now(pack(message))
            except ChannelClosedError:
                return  # its end is told to `_read_answers`

    def _read_answers(self) -> None:
        """Takes all answers that are there."""
        process = self._process
        try:
            while process is not None and (message := process.batches.receive_now()) is not None:
                self._answered(unpack(message))
                process = self._process  # whoever was answered may have closed this
        except ChannelClosedError:
            self._lost()

    def _answered(self, answer: BatchMessage) -> None:
        outcome, slot, row_count = self._sent.pop(answer.sequence)
        if answer.kind is BatchKind.SCORED:
            outcome.inference_s = answer.duration_ns / 1e9
            outcome.scores = self._scores[slot][:row_count].copy()
        else:
            outcome.error = EngineRaisedError(answer.text)
        self._free.give_back(slot - self._first_slot)
        if len(self._sent) >= self.thread_count:
            self._mark_running()
        self._send_waiting()
        self._listener.on_batch_done(outcome)
        self._end_if_done()

    def _mark_running(self) -> None:
        """Notes which batches the engine has begun with, now that one has come back: always the oldest."""
        for _, sent in zip(range(self.thread_count), self._sent.values(), strict=False):
            batch = sent.outcome.batch
            if batch.started_at is None:
                batch.started_at = self._clock.now()

    def _listen_to(self, process: EngineProcess) -> None:
        self._process = self._last_process = process
        self._since = self._clock.now()
        self.available, self.failing = True, False
        self._loop.add_reader(process.batches.fileno(), self._read_answers)

    def _lost(self) -> None:
        """The engine has ended: fails what it ran, keeps what it had not begun, and brings it back."""
        process = self._process
        if process is None:
            return
        self._loop.remove_reader(process.batches.fileno())
        self._process, self.available = None, False
        self._engine.lost()
        sent = list(self._sent.values())
        self._sent.clear()
        for each in sent:
            self._free.give_back(each.slot - self._first_slot)
        running = [each.outcome for each in sent if each.outcome.batch.started_at is not None]
        unbegun = [each.outcome for each in sent if each.outcome.batch.started_at is None]
        self._waiting.extendleft(outcome.batch for outcome in reversed(unbegun))
        for outcome in unbegun:  # those who left meanwhile
            if outcome.skipped:
                outcome.batch.slices.extend(outcome.skipped)
        delay_s = self._revivals.lost(self._clock.now() - self._since)
        self.failing = self._revivals.crash_looping
        if not self._closing:
            self._reviving = self._loop.create_task(self._revive(process, delay_s))
        for outcome in running:
            outcome.error = EngineLostError(executed=True)
            self._listener.on_batch_done(outcome)
        if self.failing or self._closing:
            self._fail(self._take_waiting())
        self._listener.on_runner_change()
        self._end_if_done()

    async def _revive(self, process: EngineProcess, delay_s: float) -> None:
        servable = str(self._servable.id)
        await asyncio.to_thread(process.end)
        log.error("engine lost", servable=servable, how=process.describe_end(), restart_in_s=delay_s)
        while True:
            await asyncio.sleep(delay_s)
            try:
                process = await asyncio.to_thread(self._engine.revive)
            except Exception:
                delay_s = self._revivals.lost(0.0)
                log.exception("engine not restarted", servable=servable, next_try_in_s=delay_s)
                self.failing = True
                self._fail(self._take_waiting())
                self._listener.on_runner_change()
            else:
                break
        self._reviving = None
        if self._closing:  # too late to be of use; the closing ends it
            return
        self._listen_to(process)
        self._on_restart()
        log.info("engine restarted", servable=servable, pid=process.pid)
        self._send_waiting()
        self._listener.on_runner_change()

    def _take_waiting(self) -> list[Batch]:
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def _fail(self, batches: list[Batch]) -> None:
        for batch in batches:
            outcome = BatchOutcome(batch)
            outcome.error = EngineLostError(executed=False)
            self._loop.call_soon(self._listener.on_batch_done, outcome)

    def _end_if_done(self) -> None:
        if not self._closing or self._sent or self._waiting or self._ending:
            return
        self._ending = True
        if self._process is not None:
            self._loop.remove_reader(self._process.batches.fileno())
            self._process, self.available = None, False
        threading.Thread(target=self._end, name="end-engine", daemon=True).start()

    def _end(self) -> None:
        self._servable.close()
        self._last_process.end()  # in case it was lost, and nobody has seen to it yet
        self._ended.set()
