"""Runs a canary beside the stable version: selects its requests, counts results, and falls back to stable."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.domain import metrics
from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.canary import CanaryMode, CanaryReport
from ferserve_server.domain.errors import (
    DeadlineUnmeetableError,
    DrainingError,
    EngineLostError,
    EngineStalledError,
    FerserveError,
    QueueFullError,
)
from ferserve_server.domain.ports import Priority
from ferserve_server.models.canary.statistics import ShadowTally, VersionTally
from ferserve_server.models.canary.verdict import judge
from ferserve_server.models.leases import Lease

if TYPE_CHECKING:
    from types import TracebackType

    from ferserve_server.domain.canary import ShadowStatistics, Verdict
    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.metrics import MetricsRecorder
    from ferserve_server.domain.ports import Clock
    from ferserve_server.domain.prediction import ScoredFaces
    from ferserve_server.models.canary.rules import CanaryRules
    from ferserve_server.models.leases import LiveVersion

log = structlog.get_logger(__name__)

_FALLBACK_ERRORS: Final = (EngineStalledError, EngineLostError, QueueFullError, DeadlineUnmeetableError)
"""Errors of the canary that the stable version may not share. An expired deadline is shared."""


class CanaryRun:
    """Runs one canary beside the stable version. Event loop only.

    Attributes:
        model: Name of the model.
        stable: The version that other requests get.
        canary: The version under evaluation.
    """

    def __init__(
        self,
        stable: LiveVersion,
        canary: LiveVersion,
        rules: CanaryRules,
        *,
        clock: Clock,
        recorder: MetricsRecorder,
    ) -> None:
        self.model = stable.id.name
        self.stable = stable
        self.canary = canary
        self.tallies = {stable.id: VersionTally(), canary.id: VersionTally()}
        self._rules = rules
        self._clock = clock
        self._recorder = recorder
        self._started_at = clock.now()
        self._accumulator = 0.0
        self._shadow = ShadowTally()
        self._shadowing: asyncio.Task[None] | None = None
        mine, theirs = canary.description, stable.description
        self._comparable = (mine.labels, mine.input.height, mine.input.width) == (
            theirs.labels,
            theirs.input.height,
            theirs.input.width,
        )
        if not self._comparable:
            log.warning(
                "the canary has other classes or another input than the stable version: nothing stands in for it, "
                "and as a shadow it is compared with nothing",
                servable=str(canary.id),
                stable=stable.id.version,
            )

    @property
    def auto(self) -> bool:
        """Returns whether verdicts are carried out, or only reported."""
        return self._rules.auto

    def lease(self) -> Lease:
        """Leases one of the two versions, for a request that names no version."""
        if self._rules.mode is CanaryMode.SHADOW or not self._select_canary():
            return CanaryLease(self, self.stable, None, selected=False)
        if not self.canary.scorer.healthy:
            return CanaryLease(self, self.stable, None, selected=False)
        return CanaryLease(self, self.canary, self.stable if self._comparable else None, selected=True)

    def undo_selection(self, *, selected: bool) -> None:
        """Undoes a choice whose lease scored nothing, as when a client only reads the model's description."""
        if self._rules.mode is CanaryMode.SPLIT:
            self._accumulator += selected - self._rules.share

    def answered(self, version: LiveVersion, crops: CropBatch, faces: ScoredFaces) -> None:
        """Counts an answer, and sends its faces to the shadow."""
        self.tallies[version.id].answered(faces, len(version.description.labels))
        self._record_request(version, "failed" if faces.failures else "answered")
        if self._rules.mode is CanaryMode.SHADOW and not faces.failures:
            self._run_shadow(crops, faces.scores[:, : len(self.stable.description.labels)])

    def failed(self, version: LiveVersion) -> None:
        """Counts a request that got no scores."""
        self.tallies[version.id].failed()
        self._record_request(version, "failed")

    def judge(self) -> Verdict:
        """Judges the figures so far."""
        return judge(
            self.tallies[self.canary.id].figures(),
            self.tallies[self.stable.id].figures(),
            self._rules,
            elapsed_s=self._clock.now() - self._started_at,
            healthy=self.canary.scorer.healthy,
            shadow=self._shadow_figures(),
        )

    def report(self) -> CanaryReport:
        """Returns a report of the canary."""
        return CanaryReport(
            self.canary.id.version,
            self.stable.id.version,
            self._rules.mode,
            self._rules.share,
            self._clock.now() - self._started_at,
            self.tallies[self.canary.id].figures(),
            self.tallies[self.stable.id].figures(),
            self._shadow_figures(),
            self.judge(),
        )

    def _record_request(self, version: LiveVersion, outcome: str) -> None:
        self._recorder.count(metrics.CANARY_REQUESTS, *version.id.labels, outcome)

    def _record_shadow(self, **face_counts: int) -> None:
        for outcome, face_count in face_counts.items():
            self._recorder.count(metrics.CANARY_SHADOW_FACES, *self.canary.id.labels, outcome, amount=face_count)

    def _shadow_figures(self) -> ShadowStatistics | None:
        return self._shadow.figures() if self._rules.mode is CanaryMode.SHADOW else None

    def _select_canary(self) -> bool:
        """Returns whether the canary gets this request, by error diffusion: evenly spread, without randomness."""
        self._accumulator += self._rules.share
        if self._accumulator < 1.0:
            return False
        self._accumulator -= 1.0
        return True

    def _run_shadow(self, crops: CropBatch, answered: Scores) -> None:
        if not (self._comparable and self._select_canary()):
            return
        if self._shadowing is not None:  # one at a time: a slow shadow must not hold more than one batch's memory
            self._shadow.dropped_count += 1
            self._record_shadow(dropped=len(crops))
            return
        # Copies: the memory of the faces may be reused once the caller has its answer.
        self._shadowing = asyncio.get_running_loop().create_task(self._compare(crops.copy(), answered.copy()))

    async def _compare(self, crops: CropBatch, answered: Scores) -> None:
        try:
            with self.canary.lease() as lease:
                faces = await lease.scorer.score(crops, priority=Priority.BULK)
        except DrainingError:
            return
        except Exception:  # noqa: BLE001 - any failure of the shadow is only counted, never answered
            self.failed(self.canary)
            return
        finally:
            self._shadowing = None
        self.tallies[self.canary.id].answered(faces, len(self.canary.description.labels))
        self._record_request(self.canary, "failed" if faces.failures else "answered")
        if not faces.failures:
            agreed = self._shadow.compared(faces.scores[:, : answered.shape[1]], answered)
            self._record_shadow(agreed=agreed, differed=len(answered) - agreed)


class CanaryLease(Lease):
    """Leases one of two versions and counts its scores.

    If the canary fails, the stable version answers in its place, and `id` reports that from then on.
    """

    __slots__ = ("_fell_back", "_run", "_selected", "_standby", "_used")

    def __init__(
        self, run: CanaryRun, version: LiveVersion, standby: LiveVersion | None, *, selected: bool
    ) -> None:
        super().__init__(version)
        self._run = run
        self._standby = None if standby is None else standby.lease()
        self._selected = selected
        self._used = False
        self._fell_back = False
        self.scorer = self  # a reference cycle, broken on exit

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.scorer = self._version.scorer
        if not self._used:
            self._run.undo_selection(selected=self._selected)
        if self._standby is not None:
            self._standby.__exit__(kind, error, trace)
        super().__exit__(kind, error, trace)

    async def score(
        self,
        crops: CropBatch,
        *,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        caller: CallerId = UNKNOWN_CALLER,
    ) -> ScoredFaces:
        """Scores faces; see `domain.ports.ScoresFaces`."""
        self._used = True
        if self._standby is not None and self._fell_back:
            return await self._standby.scorer.score(crops, deadline=deadline, priority=priority, caller=caller)
        try:
            faces = await self._version.scorer.score(crops, deadline=deadline, priority=priority, caller=caller)
        except DrainingError:
            raise
        except FerserveError as error:
            self._run.failed(self._version)
            if self._standby is None or not isinstance(error, _FALLBACK_ERRORS):
                raise
        else:
            self._run.answered(self._version, crops, faces)
            if self._standby is None or not faces.failures:
                return faces
        self._fell_back = True
        self.id, self.description = self._standby.id, self._standby.description
        return await self._standby.scorer.score(crops, deadline=deadline, priority=priority, caller=caller)
