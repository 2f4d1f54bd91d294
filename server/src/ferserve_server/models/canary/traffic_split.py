"""The canaries on trial, one a model at most."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from ferserve_server.models.canary.canary import CanaryRun

if TYPE_CHECKING:
    from ferserve_server.domain.ports import CanaryObserver, Clock, ExecutedBatch
    from ferserve_server.domain.servable import ServableId, ServableState
    from ferserve_server.models.canary.rules import CanaryPolicies
    from ferserve_server.models.canary.statistics import VersionTally
    from ferserve_server.models.leases import Lease, LiveVersion


class TrafficSplit(Protocol):
    """What requests go through that name no version."""

    def lease(self) -> Lease:
        """A lease on the version that this request gets."""


class Canaries:
    """Starts and ends trials as routes change, and gives them the times of batches. Event loop only.

    Implements `domain.ports.InferenceObserver`.
    """

    def __init__(self, policies: CanaryPolicies, *, clock: Clock, observer: CanaryObserver) -> None:
        self._policies = policies
        self.observer = observer
        self._clock = clock
        self._running: dict[str, CanaryRun] = {}
        self._tallies: dict[ServableId, VersionTally] = {}

    def entrance(self, model: str, serving: LiveVersion | None, canary: LiveVersion | None) -> TrafficSplit | None:
        """What requests for a model that name no version go through: `serving`, or its trial with `canary`."""
        trial, rules = self._running.get(model), self._policies.of(model)
        if rules is None or serving is None or canary is None or canary is serving:
            if trial is not None:
                self._end(trial)
            return serving
        if trial is not None and (trial.stable, trial.canary) == (serving, canary):
            return trial
        if trial is not None:
            self._end(trial)
        trial = CanaryRun(serving, canary, rules, clock=self._clock, observer=self.observer)
        self._running[model] = trial
        self._tallies |= trial.tallies
        self._tell(model, rules.share)
        return trial

    def tries(self, model: str) -> bool:
        """Whether new versions of a model are tried; if not, they are in force at once."""
        return self._policies.of(model) is not None

    def running(self) -> list[CanaryRun]:
        """All trials."""
        return list(self._running.values())

    def of(self, model: str) -> CanaryRun | None:
        """The trial of a model, if there is one."""
        return self._running.get(model)

    def batch_executed(self, batch: ExecutedBatch) -> None:
        """Takes the time of a batch, whoever sent its faces."""
        tally = self._tallies.get(batch.servable)
        if tally is not None:
            tally.ran(batch.padded_count, batch.inference_s)

    def batch_failed(self, servable: ServableId, *, face_count: int) -> None:
        """Requests are counted, not batches."""

    def rejected(self, reason: str) -> None:
        """Counted where it is raised."""

    def cancelled(self, stage: str) -> None:
        """The caller's doing, not the version's."""

    def state_changed(self, servable: ServableId, state: ServableState) -> None:
        """Routes tell of it."""

    def _end(self, trial: CanaryRun) -> None:
        del self._running[trial.model]
        for servable_id in trial.tallies:
            self._tallies.pop(servable_id, None)
        self._tell(trial.model, 0.0)

    def _tell(self, model: str, share: float) -> None:
        with contextlib.suppress(Exception):
            self.observer.canary_share(model, share)
