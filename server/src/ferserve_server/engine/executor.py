"""Executes batches in an engine process from the event loop: one message each way, and no threads."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from ferserve_server.domain.errors import EngineLostError, EngineStalledError
from ferserve_server.engine.hang_detection import CHECK_INTERVAL_S
from ferserve_server.engine.messages import BatchKind, BatchMessage, EngineRaisedError, pack, unpack
from ferserve_server.ipc.channel import ChannelClosedError, ChannelFullError
from ferserve_server.ipc.shared_memory import FreeSlots
from ferserve_server.scheduler.assembly import BatchOutcome, bucket_for, copy_rows, drop_cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.domain.ports import Clock, Timer
    from ferserve_server.engine.hang_detection import HangDetection
    from ferserve_server.engine.loader import EngineServable
    from ferserve_server.engine.process import EngineProcess
    from ferserve_server.scheduler.entry import Batch
    from ferserve_server.scheduler.execution import RunnerListener

log = structlog.get_logger(__name__)

_FORGOTTEN_S: Final = 10.0
"""Minimum lifetime of an engine, in seconds, after which one earlier crash is forgotten."""

_DELAY_RANGE_S: Final = (0.1, 5.0)
"""First and maximum pause before a start, in seconds, doubled each time."""

_CRASH_LOOP: Final = 3
"""Number of crashes, forgotten ones not counted, from which requests must not wait for the next start."""


class RestartBackoff:
    """Counts recent crashes and computes the wait before the next start.

    The first crash is followed by an immediate start, because clients wait. After that the pauses double, so that
    a batch that a client sends repeatedly, or a machine without memory, does not keep a core busy with starts.
    """

    def __init__(self) -> None:
        self._losses = 0.0

    def lost(self, uptime_s: float) -> float:
        """Records a crash, and returns the seconds to wait before a new start.

        Args:
            uptime_s: Time for which the engine had answered; 0 for a failed start.
        """
        self._losses = max(0.0, self._losses - uptime_s / _FORGOTTEN_S) + 1
        count = math.ceil(self._losses - 1e-9)
        if count == 1:
            return 0.0
        first_s, max_s = _DELAY_RANGE_S
        # The exponent is bounded: 2.0 ** 2000 is an error.
        return min(max_s, first_s * 2.0 ** min(count - 2, 10))

    @property
    def crash_looping(self) -> bool:
        """Returns whether requests must not wait: the engine crashed several times in a short while."""
        return self._losses > _CRASH_LOOP - 1


_MAX_RUN_NS: Final = 86_400 * 10**9
"""Maximum run time of a batch that an answer may report, in nanoseconds: a day."""


class _Sent(NamedTuple):
    """Represents a batch sent to the engine, with its slot."""

    outcome: BatchOutcome
    slot: int
    row_count: int


class EngineExecutor:
    """Implements `scheduler.execution.Runner` on an engine process; event loop only, but for `join`.

    Rows are copied once, into shared memory. The engine takes batches in the order in which they were sent, so the
    running ones are known; when it crashes these fail, and those behind them are sent again to the next one.
    Nothing that ran is run again: it may have caused the crash.
    """

    def __init__(
        self,
        servable: EngineServable,
        bucket_sizes: Sequence[int],
        clock: Clock,
        listener: RunnerListener,
        *,
        on_restart: Callable[[], None] = lambda: None,
        hang_detection: HangDetection | None = None,
    ) -> None:
        """Starts listening to the engine.

        Args:
            servable: The servable to run; owned from then on.
            bucket_sizes: Sizes that batches are padded to, rising.
            clock: The time.
            listener: Receives what happens.
            on_restart: Called when the engine was brought back.
            hang_detection: Detects hung batches; None leaves that to `replace_stalled`.
        """
        self._servable = servable
        self._engine = servable.engine
        self._bucket_sizes = list(bucket_sizes)
        self._clock = clock
        self._listener = listener
        self._on_restart = on_restart
        self._hangs = hang_detection
        self._hang_timer: Timer | None = None
        self._hung: set[int] = set()
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
        self._backoff = RestartBackoff()
        self._restarting: asyncio.Task[None] | None = None
        self._closing = self._ending = False
        self._ended = threading.Event()
        self._engine.enter_service(servable.handle, bucket_sizes)
        process = self._engine.process
        if process is None:
            raise EngineLostError(executed=False)  # it was closed: nothing else takes a process away
        self._listen_to(process)

    def submit(self, batch: Batch) -> None:
        """Sends a batch, or keeps it until there is room or an engine."""
        self._waiting.append(batch)
        self._send_waiting()

    def poll(self) -> None:
        """Processes the answers that have arrived."""
        self._read_answers()

    def replace_stalled(self) -> None:
        """Kills the engine, because a hung thread of it cannot be stopped otherwise."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Ends the engine once its batches are answered. Does not wait."""
        self._closing = True
        if self._restarting is not None:
            self._restarting.cancel()
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
            self._schedule_hang_check()
            try:
                process.batches.send_now(pack(message))
            except ChannelClosedError:
                return  # `_read_answers` handles its end
            except ChannelFullError:  # it reads none of the few that there may be
                process.kill()
                return

    def _read_answers(self) -> None:
        """Processes all answers that have arrived."""
        process = self._process
        try:
            while process is not None and (message := process.batches.receive_now()) is not None:
                answer = self._checked(message)
                if answer is None:  # the sender is no longer the engine's own program
                    log.error("engine sent no valid answer; killed", servable=str(self._servable.id))
                    process.kill()
                    self._lost()
                    return
                self._answered(answer)
                process = self._process  # a callback may have closed this
        except ChannelClosedError:
            self._lost()

    def _checked(self, message: bytes) -> BatchMessage | None:
        """Reads an answer; returns None if it belongs to no request."""
        try:
            answer = unpack(message)
        except ValueError:
            return None
        sent = self._sent.get(answer.sequence)
        fits = sent is not None and answer.slot == sent.slot and answer.kind is not BatchKind.RUN
        return answer if fits and answer.duration_ns <= _MAX_RUN_NS else None

    def _answered(self, answer: BatchMessage) -> None:
        outcome, slot, row_count = self._sent.pop(answer.sequence)
        if self._hangs is not None:
            self._hangs.answered(answer.sequence, answer.duration_ns / 1e9)
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
        """Marks the batches that the engine has begun, now that one has returned: always the oldest."""
        for _, sent in zip(range(self.thread_count), self._sent.values(), strict=False):
            batch = sent.outcome.batch
            if batch.started_at is None:
                batch.started_at = self._clock.now()

    def _schedule_hang_check(self) -> None:
        if self._hangs is not None and self._hang_timer is None:
            self._hang_timer = self._clock.call_at(self._clock.now() + CHECK_INTERVAL_S, self._check_hangs)
            self._hangs.check(self._clock.now(), self._running())

    def _check_hangs(self) -> None:
        self._hang_timer = None
        if self._hangs is None or not self._sent or self._process is None:
            return
        self._hung.update(self._hangs.check(self._clock.now(), self._running()))
        if self._hung:
            limit_s = self._hangs.limit_s
            log.error("engine hangs; killed", servable=str(self._servable.id), after_s=round(limit_s, 3))
            self._process.kill()  # `_read_answers` handles its end
            return
        self._schedule_hang_check()

    def _running(self) -> list[int]:
        return [sequence for _, sequence in zip(range(self.thread_count), self._sent, strict=False)]

    def _listen_to(self, process: EngineProcess) -> None:
        self._process = self._last_process = process
        self._since = self._clock.now()
        self.available, self.failing = True, False
        self._loop.add_reader(process.batches.fileno(), self._read_answers)

    def _lost(self) -> None:
        """Handles the engine's end: fails running batches, keeps those not begun, and restarts it."""
        process = self._process
        if process is None:
            return
        self._loop.remove_reader(process.batches.fileno())
        self._process, self.available = None, False
        self._engine.lost()
        sent = list(self._sent.values())
        hung = [self._sent[sequence].outcome for sequence in self._hung if sequence in self._sent]
        self._sent.clear()
        self._hung.clear()
        if self._hangs is not None:
            self._hangs.reset()
        for each in sent:
            self._free.give_back(each.slot - self._first_slot)
        running = [each.outcome for each in sent if each.outcome.batch.started_at is not None]
        unbegun = [each.outcome for each in sent if each.outcome.batch.started_at is None]
        self._waiting.extendleft(outcome.batch for outcome in reversed(unbegun))
        for outcome in unbegun:  # those of requests cancelled meanwhile
            if outcome.skipped:
                outcome.batch.slices.extend(outcome.skipped)
        delay_s = self._backoff.lost(self._clock.now() - self._since)
        standby = self._engine.standby_ready
        self.failing = self._backoff.crash_looping and not standby
        if not self._closing:
            self._restarting = self._loop.create_task(self._restart(process, delay_s))
        for outcome in running:
            outcome.error = self._stalled() if outcome in hung else EngineLostError(executed=True)
            self._listener.on_batch_done(outcome)
        if self.failing or self._closing:
            self._fail(self._take_waiting())
        if not standby:  # else it is back before any request could be sent elsewhere
            self._listener.on_runner_change()
        self._end_if_done()

    def _stalled(self) -> EngineStalledError:
        return EngineStalledError(self._hangs.limit_s if self._hangs is not None else 0.0)

    async def _restart(self, process: EngineProcess, delay_s: float) -> None:
        servable = str(self._servable.id)
        process.kill()  # it must not write into the memory that the next one uses
        await asyncio.to_thread(process.end)
        standby = self._engine.standby_ready
        log.error(
            "engine lost",
            servable=servable,
            how=process.describe_end(),
            standby=standby,
            restart_in_s=0.0 if standby else delay_s,
        )
        while True:
            if not self._engine.standby_ready:
                await asyncio.sleep(delay_s)
            try:
                process = await asyncio.to_thread(self._engine.restart)
            except Exception:
                delay_s = self._backoff.lost(0.0)
                log.exception("engine not restarted", servable=servable, next_try_in_s=delay_s)
                self.failing = True
                self._fail(self._take_waiting())
                self._listener.on_runner_change()
            else:
                break
        self._restarting = None
        if self._closing:  # too late to be of use; `close` ends it
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
        self._last_process.end()  # in case it crashed and that is not handled yet
        self._ended.set()
