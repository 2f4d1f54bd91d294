"""Runs the batches that the policy dispatches, answers their requests, and recovers from failures."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.errors import (
    DeadlineExpiredError,
    DeadlineUnmeetableError,
    DrainingError,
    EngineLostError,
    EngineStalledError,
    FerserveError,
    InferenceFailedError,
)
from ferserve_server.domain.ports import DispatchReason, ExecutedBatch, Priority
from ferserve_server.domain.trace import inside, sampled_spans
from ferserve_server.scheduler import admission, recovery
from ferserve_server.scheduler.assembly import BatchOutcome
from ferserve_server.scheduler.batch_tracing import BatchTracing, log_fields
from ferserve_server.scheduler.coalescing import MAX_WAIT_S, CoalescedCallback
from ferserve_server.scheduler.entry import Batch, Entry
from ferserve_server.scheduler.execution import RunnerListener, ThreadRunner
from ferserve_server.scheduler.policy import Dispatch, Executors, decide
from ferserve_server.scheduler.quarantine import Quarantine, Suspects, isolated_batches
from ferserve_server.scheduler.queue import FairQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.ports import Clock, InferenceObserver, Servable, Timer
    from ferserve_server.domain.prediction import ScoredFaces
    from ferserve_server.domain.trace import BatchTracer
    from ferserve_server.scheduler.execution import RunnerMaker
    from ferserve_server.scheduler.settings import BatcherSettings

log = structlog.get_logger(__name__)

_JOIN_TIMEOUT_S = 10.0
"""Maximum wait for executors to end, in seconds. A large batch takes far less; one that hangs never ends."""


class Batcher:
    """Groups the faces of all callers into batches of one servable. Implements `domain.ports.FaceScorer`.

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
        tracer: BatchTracer | None = None,
    ) -> None:
        self._servable = servable
        self._settings = settings
        self._rules = settings.dispatch_rules
        self._limits = settings.queue_limits(servable.executor_count)
        self._clock = clock
        self._observer = observer
        self._on_health_change = on_health_change
        self._loop = asyncio.get_running_loop()
        self._queue = FairQueue()
        self._end_of_iteration = CoalescedCallback(self._loop, clock, self._schedule)
        self._estimate = admission.ServiceEstimate()
        self._in_flight: set[Batch] = set()
        self._suspects = Suspects()
        self._quarantine = Quarantine()
        self._tracing = BatchTracing(tracer, servable.id, clock)
        self._others_next = False
        listener = RunnerListener(self._on_batch_done, self._on_runner_change)
        self._runner = make_runner(servable, settings.bucket_sizes, clock, listener)
        self._polled_at = clock.now()
        self._timer: Timer | None = None
        self._timer_at = float("inf")
        self._draining = False
        self._drained = asyncio.Event()
        self.healthy = True

    @property
    def depth_faces(self) -> int:
        """Returns the number of waiting faces. Any thread."""
        return self._queue.face_count

    @property
    def oldest_age_s(self) -> float:
        """Returns the age of the oldest waiting request, in seconds; 0 if there is none. Any thread."""
        return self._queue.oldest_age_s(self._clock.now())

    async def score(
        self,
        crops: CropBatch,
        *,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        caller: CallerId = UNKNOWN_CALLER,
    ) -> ScoredFaces:
        """Scores faces; see `domain.ports.FaceScorer`."""
        now = self._clock.now()
        self._keep_executors_busy(now)
        label_count = self._servable.description.score_column_count
        future, spans = self._loop.create_future(), sampled_spans.get()
        entry = Entry(crops, label_count, future, priority, now, deadline, caller, spans)
        if spans:
            with inside(()):  # what is scheduled from here is not this call's alone
                self._accept(now, entry)
        else:
            self._accept(now, entry)
        try:
            return await entry.future
        except asyncio.CancelledError:
            self._cancel(entry)
            raise

    async def drain(self) -> None:
        """Accepts nothing new and returns when everything accepted is answered."""
        self._draining = True
        self._rules = replace(self._rules, hold_until_queued=0, max_queue_delay_s=0.0)
        self._schedule()
        await self._drained.wait()

    async def close(self) -> None:
        """Stops the executors and unloads the servable. Whatever still waits fails with DrainingError."""
        self._draining = True
        if self._timer is not None:
            self._timer.cancel()
        self._fail_waiting(DrainingError())
        self._runner.close()
        await asyncio.to_thread(self._runner.join, _JOIN_TIMEOUT_S)

    def _keep_executors_busy(self, now: float) -> None:
        """Handles finished batches while a long event-loop iteration takes requests in.

        Rejected requests must not keep the executors idle either, so this comes before admission.
        """
        if self._in_flight and now - self._polled_at >= MAX_WAIT_S:
            self._polled_at = now
            self._runner.poll()

    def _accept(self, now: float, entry: Entry) -> None:
        try:
            self._admit(now, entry)
        except FerserveError as error:
            self._observer.rejected(error.reason)
            raise
        if self._suspects and self._isolate(entry, now):
            self._schedule()
        else:
            self._queue.append(entry)
            self._end_of_iteration.request()

    def _admit(self, now: float, entry: Entry) -> None:
        if self._draining:
            raise DrainingError
        if self._runner.failing:
            raise EngineLostError(executed=False)
        queue = self._queue
        displaced = admission.displaced_requests(entry, queue, self._limits)
        own_faces = queue.faces_of(entry.caller)
        admission.check_admission(
            face_count=len(entry.crops),
            byte_count=entry.crops.nbytes,
            remaining_s=None if entry.deadline is None else entry.deadline - now,
            load=admission.Load(
                queue.face_count - sum(each.remaining for each in displaced),
                queue.byte_count - sum(each.crops.nbytes for each in displaced),
                own_faces,
                queue.caller_count - (own_faces > 0),
                self._runner.available and len(self._in_flight) < self._runner.thread_count,
            ),
            estimate=self._estimate,
            limits=self._limits,
        )
        if displaced:
            error = admission.faces_full_error(queue.face_count, self._estimate, self._limits)
            for each in displaced:
                queue.drop(each)
                self._reject(each, error)

    def _isolate(self, entry: Entry, now: float) -> bool:
        """Puts a request with suspects in it into quarantine; returns whether there are any."""
        suspects, convicted = self._suspects.sort_out(entry.crops, now)
        if not suspects and not convicted:
            return False
        largest = self._limits.max_batch_size
        if suspects and self._quarantine.full:
            error = admission.faces_full_error(self._queue.face_count, self._estimate, self._limits)
            self._observer.rejected(error.reason)
            raise error
        self._quarantine.add(isolated_batches(entry, suspects, convicted, largest, now))
        for row in convicted:
            entry.fail_row(row, InferenceFailedError())
        return True

    def _cancel(self, entry: Entry) -> None:
        """Drops a caller's waiting rows at once; the scores of its running ones are discarded."""
        rejected = recovery.rejected_in_queue(entry)
        if entry.deadline is not None and not rejected:
            self._estimate.record_answer(wasted=True)
        if entry.remaining:
            self._observer.cancelled("queued")
            self._queue.drop(entry)
            self._schedule()
        elif rejected:
            self._observer.cancelled("queued")
        else:
            self._observer.cancelled("running")

    def _schedule(self) -> None:
        """Dispatches batches until the policy says to wait."""
        now = self._clock.now()
        for entry in self._queue.pop_expired(now):
            self._estimate.record_answer(wasted=True)
            self._reject(entry, DeadlineExpiredError())
        self._run_isolated(now)
        while self._queue and self._runner.available and self._may_run_others():
            busy, threads = len(self._in_flight), self._runner.thread_count
            executors = Executors(max(0, threads - busy), max(0, busy - threads), min(busy, threads))
            service_s = self._estimate.service_s * (2 if busy >= threads else 1)
            decision = decide(now, self._queue.state(), executors, self._rules, service_s)
            if not isinstance(decision, Dispatch):
                self._wake_at(decision.when)
                break
            self._dispatch(now, decision)
        if self._in_flight:
            self._others_next = False
        self._wake_at(self._queue.next_deadline())
        if self._draining and not self._queue and not self._in_flight and not self._quarantine:
            self._drained.set()

    def _run_isolated(self, now: float) -> None:
        """Runs the next batch of the quarantine, if nothing else runs; other requests alternate with it."""
        if self._in_flight or not self._runner.available or (self._others_next and self._queue):
            return
        isolated = self._quarantine.next()
        if isolated is not None:
            isolated.dispatched_at = now
            self._run(isolated)

    def _may_run_others(self) -> bool:
        """Returns whether other batches may start beside the quarantine, which may crash the engine."""
        if any(batch.reason is DispatchReason.QUARANTINE for batch in self._in_flight):
            return False
        return self._others_next or not self._quarantine

    def _dispatch(self, now: float, decision: Dispatch[Entry]) -> None:
        for entry in decision.late:
            remaining_s = 0.0 if entry.deadline is None else entry.deadline - now
            self._queue.drop(entry)
            self._estimate.record_answer(wasted=True)
            self._reject(
                entry, DeadlineUnmeetableError(remaining_s=remaining_s, expected_s=self._estimate.service_s)
            )
        slices = self._queue.take(decision)
        for part in slices:
            if part.start == 0:
                part.entry.queue_s = now - part.entry.enqueued_at
        self._rules = replace(self._rules, hold_until_queued=0) if self._rules.hold_until_queued else self._rules
        self._run(Batch(slices, DispatchReason.DRAIN if self._draining else decision.reason, now))

    def _reject(self, entry: Entry, error: FerserveError) -> None:
        self._observer.rejected(error.reason)
        self._tracing.left_queue(entry, error.reason)
        entry.fail(error)

    def _run(self, batch: Batch) -> None:
        self._in_flight.add(batch)
        self._tracing.begin(batch)
        self._wake_at(batch.dispatched_at + self._settings.execution_timeout_s)
        self._runner.submit(batch)

    def _on_batch_done(self, outcome: BatchOutcome) -> None:
        batch = outcome.batch
        if batch.abandoned:
            return
        self._in_flight.discard(batch)
        now = self._polled_at = self._clock.now()
        self._others_next = batch.reason is DispatchReason.QUARANTINE
        for part in outcome.skipped:
            if not part.entry.done:
                if part.entry.expired(now):
                    self._estimate.record_answer(wasted=True)
                self._reject(part.entry, DeadlineExpiredError())
        self._tracing.executed(outcome)
        if outcome.error is not None:
            self._recover(batch, outcome.error)
        else:
            self._answer(outcome, now)
        self._schedule()

    def _answer(self, outcome: BatchOutcome, now: float) -> None:
        batch, scores = outcome.batch, outcome.scores
        if scores is None:
            return
        self._estimate.record_batch(now - (batch.started_at or now - outcome.inference_s))
        # Answers leave when their callers run: after what else this iteration of the event loop has to do.
        self._loop.call_soon(self._record_lag, now)
        batch.attempts.succeeded += 1
        if batch.reason is DispatchReason.QUARANTINE:
            self._suspects.clear(batch)
        recovery.scatter(batch, scores, outcome.inference_s, outcome.servable)
        for part in batch.slices:
            if part.entry.deadline is not None and part.entry.done:
                self._estimate.record_answer(wasted=part.entry.expired(now + self._estimate.lag_s))
        if not self.healthy:
            self._set_health(healthy=True)
        queue_s = batch.dispatched_at - min(part.entry.enqueued_at for part in batch.slices)
        servable, padded = outcome.servable or self._servable.id, outcome.padded_count
        self._observer.batch_executed(
            ExecutedBatch(servable, batch.reason, padded, queue_s, outcome.inference_s, scores, batch.span)
        )

    def _record_lag(self, since: float) -> None:
        self._estimate.record_lag(self._clock.now() - since)

    def _recover(self, batch: Batch, error: Exception) -> None:
        """Finds the failing row by bisection, and fails it alone."""
        self._observer.batch_failed(self._servable.id, face_count=batch.row_count)
        about = {"servable": str(self._servable.id), "faces": batch.row_count, **log_fields(batch)}
        log.error("batch failed", exc_info=error, **about)
        # Not tried again: one of its rows may be the cause.
        if isinstance(error, EngineStalledError) or (isinstance(error, EngineLostError) and error.executed):
            self._suspects.accuse(batch, self._clock.now())
        if isinstance(error, EngineLostError | EngineStalledError):
            recovery.fail_requests(batch, error, self._queue)
            return
        batch.attempts.failed += 1
        if recovery.worth_bisecting(batch, self._rules.max_batch_size):
            for half in batch.halves(DispatchReason.BISECT):
                self._run(half)
            return
        recovery.fail_rows(batch)

    def _check_stalls(self) -> None:
        """Fails batches that run too long, replaces their threads, and probes the engine."""
        now, timeout_s = self._clock.now(), self._settings.execution_timeout_s
        for batch in [batch for batch in self._in_flight if recovery.stalled(batch, now, timeout_s)]:
            log.error(
                "engine stalled", servable=str(self._servable.id), faces=batch.row_count, **log_fields(batch)
            )
            batch.abandoned = True
            self._in_flight.discard(batch)
            self._observer.batch_failed(self._servable.id, face_count=batch.row_count)
            self._suspects.accuse(batch, now)
            stalled = EngineStalledError(timeout_s)
            self._tracing.executed(BatchOutcome(batch, stalled))
            recovery.fail_requests(batch, stalled, self._queue)
            self._runner.replace_stalled()
            self._set_health(healthy=False)
            self._probe()
        for batch in self._in_flight:
            self._wake_at((batch.started_at or now) + timeout_s)

    def _probe(self) -> None:
        """Runs one blank face, so that health recovers without waiting for a caller."""
        future = self._loop.create_future()
        future.add_done_callback(lambda future: future.exception())  # a failure is logged where it happens
        self._run(recovery.probe(self._servable.description, future, self._clock.now()))

    def _on_runner_change(self) -> None:
        """Handles the loss or return of the engine: requests go on waiting if it is expected back."""
        self._set_health(healthy=self._runner.available)
        if self._runner.failing:
            self._fail_waiting(EngineLostError(executed=False))
        self._schedule()

    def _fail_waiting(self, error: FerserveError) -> None:
        self._queue.fail_all(error)
        for batch in self._quarantine.take_all():
            recovery.fail_requests(batch, error)

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
        self._schedule()
