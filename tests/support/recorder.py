"""Keeps recorded metrics for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ferserve_server.domain.metrics import Metric


@dataclass
class Recorder:
    """Implements `domain.metrics.MetricsRecorder`: keeps what is recorded."""

    batch_sizes: list[int] = field(default_factory=list)
    dispatch_reasons: list[str] = field(default_factory=list)
    padded_counts: list[int] = field(default_factory=list)
    failed_batch_sizes: list[int] = field(default_factory=list)
    rejections: list[str] = field(default_factory=list)
    cancellations: list[str] = field(default_factory=list)
    states: list[tuple[str, str]] = field(default_factory=list)
    routes: dict[str, tuple[dict[str, int], int | None]] = field(default_factory=dict)
    values: list[tuple[Metric, tuple[str, ...], float]] = field(default_factory=list)

    def batch_executed(self, batch) -> None:
        self.batch_sizes.append(batch.face_count)
        self.dispatch_reasons.append(batch.dispatch_reason.value)
        self.padded_counts.append(batch.padded_count)

    def batch_failed(self, servable, *, face_count) -> None:
        self.failed_batch_sizes.append(face_count)

    def rejected(self, reason) -> None:
        self.rejections.append(reason)

    def cancelled(self, stage) -> None:
        self.cancellations.append(stage)

    def state_changed(self, servable, state) -> None:
        self.states.append((str(servable), state.value))

    def routed(self, model, aliases, serving_version) -> None:
        self.routes[model] = (dict(aliases), serving_version)

    def count(self, counter, *labels, amount=1.0) -> None:
        self.values.append((counter, labels, amount))

    def observe(self, histogram, value, *labels) -> None:
        self.values.append((histogram, labels, value))

    def add(self, gauge, amount, *labels) -> None:
        self.values.append((gauge, labels, amount))

    def set(self, gauge, value, *labels) -> None:
        self.values.append((gauge, labels, value))

    def read(self, gauge, read, *labels) -> None:
        self.values.append((gauge, labels, read()))

    def remove(self, gauge, *labels) -> None:
        self.values = [each for each in self.values if each[:2] != (gauge, labels)]

    def labels_of(self, metric: Metric) -> list[tuple[str, ...]]:
        """Returns the labels of each value of a metric, in order."""
        return [labels for each, labels, _ in self.values if each is metric]

    def of(self, metric: Metric) -> list[tuple[str | float, ...]]:
        """Returns labels and value of each value of a metric, in order."""
        return [(*labels, value) for each, labels, value in self.values if each is metric]
