"""The shell around the rules: takes requests in, runs what the policy cuts, answers, survives failures."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from ferserve_server.domain.errors import (
    DeadlineExpiredError,
    DrainingError,
    EngineLostError,
    EngineStalledError,
    FerserveError,
)
from ferserve_server.domain.ports import CutReason, ExecutedBatch, Priority
from ferserve_server.domain.prediction import ScoredFaces
from ferserve_server.scheduler import recovery
from ferserve_server.scheduler.admission import ServiceRate, check_admission
from ferserve_server.scheduler.alone import InPlace
from ferserve_server.scheduler.entry import Batch, Entry
from ferserve_server.scheduler.policy import Dispatch, Executors, decide
from ferserve_server.scheduler.queue import EntryQueue
from ferserve_server.scheduler.runner import RunnerListener, ThreadRunner
from ferserve_server.scheduler.turn import EndOfTurn

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.ports import Clock, InferenceObserver, Servable, Timer
    from ferserve_server.scheduler.gathering import BatchOutcome
    from ferserve_server.scheduler.runner import RunnerMaker
    from ferserve_server.scheduler.settings import BatcherSettings

log = structlog.get_logger(__name__)

_JOIN_TIMEOUT_S = 10.0
"""Longest wait for executors that were told to end. A large batch takes far less, a hung one for ever."""


class Batcher:
    """Groups the faces of all callers onto one servable. Implements `domain.ports.FaceScorer`.

    Everything but the executions happens on the event loop, so there are no locks. Make it and use it on one
    running loop.
    """

    def __init__(
        self,
        servable: Servable,
        settings: BatcherSettings,
        *,
        clock: Clock,
        observer: InferenceObserver,
        on_health_change: Callable[[], None] = lambda: None,
        make_runner: RunnerMaker = ThreadRunner,
    ) -> None:
        self._servable = servable
        self._settings = settings
        self._rules = settings.cut_rules
        self._limits = settings.queue_limits(servable.executor_count)
        self._clock = clock
        self._observer = observer
        self._on_health_change = on_health_change
        self._loop = asyncio.get_running_loop()
        self._queue = EntryQueue()
        self._turn = EndOfTurn(self._loop, self._pump)
        self._rate = ServiceRate()
        self._in_flight: set[Batch] = set()
        listener = RunnerListener(self._came_back, self._runner_changed)
        self._runner = make_runner(servable, settings.bucket_sizes, clock, listener)
        self._in_place = InPlace(servable, settings.bucket_sizes, settings.inline_s, settings.execution_timeout_s)
        self._timer: Timer | None = None
        self._timer_at = float("inf")
        self._draining = False
        self._drained = asyncio.Event()
        self.healthy = True

    @property
    def depth_faces(self) -> int:
        """Faces that wait. Any thread."""
        return self._queue.face_count

    @property
    def oldest_age_s(self) -> float:
        """Age of the oldest request that waits, in seconds; 0 if none does. Any thread."""
        return self._queue.oldest_age_s(self._clock.now())

    async def score(
        self, crops: CropBatch, *, deadline: float | None = None, priority: Priority = Priority.INTERACTIVE
    ) -> ScoredFaces:
        """Scores faces; see `domain.ports.FaceScorer`."""
        now = self._clock.now()
        try:
            self._admit(now, crops, deadline)
        except FerserveError as error:
            self._observer.rejected(error.reason)
            raise
        # Bulk work never runs on the event loop: others would wait for it. Nor does anything on a sick engine.
        in_place = priority is Priority.INTERACTIVE and self.healthy
        if in_place and (faces := self._score_in_place(crops, now)) is not None:
            return faces
        entry = self._entry(crops, priority, now, deadline)
        self._queue.append(entry)
        self._turn.ask()
        try:
            return await entry.future
        except asyncio.CancelledError:
            self._leave(entry)
            raise

    async def drain(self) -> None:
        """Takes nothing new and returns when everything taken is answered."""
        self._draining = True
        self._rules = replace(self._rules, hold_until_queued=0, max_queue_delay_s=0.0)
        self._pump()
        await self._drained.wait()

    async def close(self) -> None:
        """Stops the executors and unloads the servable. Whatever still waits fails with DrainingError."""
        self._draining = True
        if self._timer is not None:
            self._timer.cancel()
        self._queue.fail_all(DrainingError())
        self._in_place.close()
        self._runner.close()
        await asyncio.to_thread(self._runner.join, _JOIN_TIMEOUT_S)

    def _admit(self, now: float, crops: CropBatch, deadline: float | None) -> None:
        if self._draining:
            raise DrainingError
        if self._runner.failing:
            raise EngineLostError
        check_admission(
            face_count=len(crops),
            byte_count=crops.nbytes,
            queued_faces=self._queue.face_count,
            queued_bytes=self._queue.byte_count,
            remaining_s=None if deadline is None else deadline - now,
            executor_idle=self._runner.available and len(self._in_flight) < self._runner.thread_count,
            rate=self._rate,
            limits=self._limits,
        )

    def _score_in_place(self, crops: CropBatch, now: float) -> ScoredFaces | None:
        others = bool(self._in_flight) or self._queue.face_count > 0
        scores = self._in_place.scores(crops, others=others, expected_s=self._rate.batch_s)
        if scores is None:
            return None
        inference_s = self._clock.now() - now
        self._rate.executed(inference_s)
        self._in_place.executed(len(crops), inference_s)
        self._observer.batch_executed(
            ExecutedBatch(self._servable.id, CutReason.ALONE, len(crops), 0.0, inference_s, scores)
        )
        return ScoredFaces(scores, inference_s=inference_s)

    def _entry(self, crops: CropBatch, priority: Priority, now: float, deadline: float | None) -> Entry:
        label_count = len(self._servable.description.labels)
        return Entry(crops, label_count, self._loop.create_future(), priority, now, deadline)

    def _leave(self, entry: Entry) -> None:
        """A caller is gone: its waiting rows make room now; its running ones come back to nobody."""
        if entry.remaining:
            self._observer.cancelled("queued")
            self._queue.drop(entry)
            self._pump()
        else:
            self._observer.cancelled("running")

    def _pump(self) -> None:
        """Does what the policy says until it says to wait."""
        now = self._clock.now()
        for entry in self._queue.pop_expired(now):
            self._observer.rejected(DeadlineExpiredError.reason)
            entry.fail(DeadlineExpiredError())
        while self._queue and self._runner.available:
            busy, threads = len(self._in_flight), self._runner.thread_count
            executors = Executors(max(0, threads - busy), max(0, busy - threads), min(busy, threads))
            decision = decide(now, self._queue.entries, self._queue.face_count, executors, self._rules)
            if not isinstance(decision, Dispatch):
                self._wake_at(decision.when)
                break
            self._cut(now, decision)
        self._wake_at(self._queue.next_deadline())
        if self._draining and not self._queue and not self._in_flight:
            self._drained.set()

    def _cut(self, now: float, decision: Dispatch) -> None:
        slices = self._queue.take(decision.row_counts)
        for part in slices:
            if part.start == 0:
                part.entry.queue_s = now - part.entry.enqueued_at
        self._rules = replace(self._rules, hold_until_queued=0) if self._rules.hold_until_queued else self._rules
        self._run(Batch(slices, CutReason.DRAIN if self._draining else decision.reason, now))

    def _run(self, batch: Batch) -> None:
        self._in_flight.add(batch)
        self._wake_at(batch.cut_at + self._settings.execution_timeout_s)
        self._runner.submit(batch)

    def _came_back(self, outcome: BatchOutcome) -> None:
        batch = outcome.batch
        if batch.abandoned:
            return
        self._in_flight.discard(batch)
        for part in outcome.skipped:
            part.entry.fail(DeadlineExpiredError())
        if outcome.error is not None:
            self._recover(batch, outcome.error)
        elif outcome.scores is not None:
            self._answer(outcome)
        self._pump()

    def _answer(self, outcome: BatchOutcome) -> None:
        batch, scores = outcome.batch, outcome.scores
        if scores is None:
            return
        self._rate.executed(outcome.inference_s)
        self._in_place.executed(outcome.padded_count, outcome.inference_s)
        batch.attempts.succeeded += 1
        recovery.hand_out(batch, scores, outcome.inference_s, outcome.servable)
        if not self.healthy:
            self._set_health(healthy=True)
        queue_s = batch.cut_at - min(part.entry.enqueued_at for part in batch.slices)
        servable = outcome.servable or self._servable.id
        self._observer.batch_executed(
            ExecutedBatch(servable, batch.reason, outcome.padded_count, queue_s, outcome.inference_s, scores)
        )

    def _recover(self, batch: Batch, error: Exception) -> None:
        """Finds the row at fault by halves, and fails it alone."""
        self._observer.batch_failed(self._servable.id, face_count=batch.row_count)
        log.error("batch failed", servable=str(self._servable.id), faces=batch.row_count, exc_info=error)
        if isinstance(error, EngineLostError):  # not tried again: one of its rows may have done it
            recovery.fail_requests(batch, error)
            return
        batch.attempts.failed += 1
        if recovery.worth_halving(batch, self._rules.max_batch_size):
            for half in batch.halves(CutReason.BISECT):
                self._run(half)
            return
        recovery.fail_rows(batch)

    def _check_stalls(self) -> None:
        """Fails batches that run too long, and puts a new thread and a probe in their place."""
        now, timeout_s = self._clock.now(), self._settings.execution_timeout_s
        for batch in [batch for batch in self._in_flight if recovery.stalled(batch, now, timeout_s)]:
            log.error("engine stalled", servable=str(self._servable.id), faces=batch.row_count)
            batch.abandoned = True
            self._in_flight.discard(batch)
            self._observer.batch_failed(self._servable.id, face_count=batch.row_count)
            recovery.fail_requests(batch, EngineStalledError(timeout_s))
            self._runner.replace_stalled()
            self._set_health(healthy=False)
            self._probe()
        for batch in self._in_flight:
            self._wake_at((batch.started_at or now) + timeout_s)

    def _probe(self) -> None:
        """Runs one blank face, so that health comes back without waiting for a caller."""
        now = self._clock.now()
        entry = self._entry(self._servable.description.input.blank(1), Priority.INTERACTIVE, now, None)
        entry.future.add_done_callback(lambda future: future.exception())  # a failure is logged where it happens
        self._run(Batch([entry.take(1)], CutReason.EXECUTOR_IDLE, now))

    def _runner_changed(self) -> None:
        """The engine is gone, or back: what waits goes on waiting, unless there is no hope."""
        self._set_health(healthy=self._runner.available)
        if self._runner.failing:
            self._queue.fail_all(EngineLostError())
        self._pump()

    def _set_health(self, *, healthy: bool) -> None:
        self.healthy = healthy
        self._on_health_change()

    def _wake_at(self, when: float | None) -> None:
        if when is None or when >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._clock.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self._check_stalls()
        self._pump()
