"""Writes how canaries do into the metrics."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ferserve_server.domain.canary import ShadowFigures, Verdict
    from ferserve_server.domain.servable import ServableId
    from ferserve_server.observability.metrics import Metrics


class CanaryMetrics:
    """Implements `domain.ports.CanaryObserver`. Event loop only."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._requests = cache(
            lambda servable, outcome: metrics.canary_requests.labels(servable.name, str(servable.version), outcome)
        )

    def canary_share(self, model: str, share: float) -> None:
        """Keeps the share that a canary gets."""
        self._metrics.canary_share.labels(model).set(share)

    def canary_answered(self, servable: ServableId, outcome: str) -> None:
        """Counts a request of a trial."""
        self._requests(servable, outcome).inc()

    def canary_judged(self, model: str, verdict: Verdict) -> None:
        """Counts a verdict."""
        self._metrics.canary_verdicts.labels(model, verdict.result.value, verdict.reason).inc()

    def shadow_compared(self, servable: ServableId, *, agreed: int, differed: int, dropped: int) -> None:
        """Counts faces copied to a shadow."""
        version = (servable.name, str(servable.version))
        for outcome, count in (("agreed", agreed), ("differed", differed), ("dropped", dropped)):
            self._metrics.canary_shadow_faces.labels(*version, outcome).inc(count)

    def shadow_figures(self, servable: ServableId, figures: ShadowFigures) -> None:
        """Keeps how far a shadow's probabilities are from those answered."""
        gauge, version = self._metrics.canary_shadow_difference, (servable.name, str(servable.version))
        gauge.labels(*version, "mean").set(figures.mean_difference)
        gauge.labels(*version, "largest").set(figures.largest_difference)
