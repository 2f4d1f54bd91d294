"""Splits traffic between stable versions and canaries, at most one canary per model."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from ferserve_server.domain import metrics
from ferserve_server.models.canary.canary import CanaryRun

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ferserve_server.domain.metrics import MetricsRecorder
    from ferserve_server.domain.ports import Clock, ExecutedBatch
    from ferserve_server.domain.servable import ServableId, ServableState
    from ferserve_server.models.canary.rules import CanaryPolicies
    from ferserve_server.models.canary.statistics import VersionTally
    from ferserve_server.models.leases import Lease, LiveVersion


class TrafficSplit(Protocol):
    """Selects the version of requests that name none."""

    def lease(self) -> Lease:
        """Leases the version selected for this request."""


class Canaries:
    """Starts and ends canary runs as routes change, and feeds them batch times. Event loop only.

    Implements `domain.ports.InferenceObserver`.
    """

    def __init__(self, policies: CanaryPolicies, *, clock: Clock, recorder: MetricsRecorder) -> None:
        self._policies = policies
        self.recorder = recorder
        self._clock = clock
        self._running: dict[str, CanaryRun] = {}
        self._tallies: dict[ServableId, VersionTally] = {}

    def traffic_split(
        self, model: str, serving: LiveVersion | None, canary: LiveVersion | None
    ) -> TrafficSplit | None:
        """Returns the traffic split of a model's requests without a version: `serving`, or a run with `canary`."""
        run, rules = self._running.get(model), self._policies.of(model)
        if rules is None or serving is None or canary is None or canary is serving:
            if run is not None:
                self._end(run)
            return serving
        if run is not None and (run.stable, run.canary) == (serving, canary):
            return run
        if run is not None:
            self._end(run)
        run = CanaryRun(serving, canary, rules, clock=self._clock, recorder=self.recorder)
        self._running[model] = run
        self._tallies |= run.tallies
        self._publish_share(model, rules.share)
        return run

    def has_canaries(self, model: str) -> bool:
        """Returns whether new versions of a model run as canaries; if not, they become active at once."""
        return self._policies.of(model) is not None

    def running(self) -> list[CanaryRun]:
        """Returns all canary runs."""
        return list(self._running.values())

    def of(self, model: str) -> CanaryRun | None:
        """Returns the canary run of a model, if there is one."""
        return self._running.get(model)

    def batch_executed(self, batch: ExecutedBatch) -> None:
        """Records the time of a batch, independent of its requests."""
        tally = self._tallies.get(batch.servable)
        if tally is not None:
            tally.ran(batch.padded_count, batch.inference_s)

    def batch_failed(self, servable: ServableId, *, face_count: int) -> None:
        """Does nothing: requests are counted, not batches."""

    def rejected(self, reason: str) -> None:
        """Does nothing: rejections are counted where they are raised."""

    def cancelled(self, stage: str) -> None:
        """Does nothing: cancellations are the client's doing, not the version's."""

    def state_changed(self, servable: ServableId, state: ServableState) -> None:
        """Does nothing: routes report the state."""

    def routed(self, model: str, aliases: Mapping[str, int], serving_version: int | None) -> None:
        """Does nothing: it is the source of this."""

    def _end(self, run: CanaryRun) -> None:
        del self._running[run.model]
        for servable_id in run.tallies:
            self._tallies.pop(servable_id, None)
        self._publish_share(run.model, 0.0)

    def _publish_share(self, model: str, share: float) -> None:
        with contextlib.suppress(Exception):
            self.recorder.set(metrics.CANARY_SHARE, share, model)
