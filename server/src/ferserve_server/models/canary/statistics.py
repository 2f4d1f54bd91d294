"""Gathers the live-traffic figures of two versions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.domain.canary import ShadowStatistics, Spread, VersionStatistics

if TYPE_CHECKING:
    from ferserve_server.domain.face import Scores
    from ferserve_server.domain.prediction import ScoredFaces


class RunningSpread:
    """Computes mean and variance incrementally, by Welford's method (Technometrics 4, 1962)."""

    __slots__ = ("_mean", "_squares", "count")

    def __init__(self) -> None:
        self.count = 0
        self._mean = 0.0
        self._squares = 0.0

    def add(self, value: float) -> None:
        """Adds a value."""
        self.count += 1
        step = value - self._mean
        self._mean += step / self.count
        self._squares += step * (value - self._mean)

    def spread(self) -> Spread:
        """Returns the spread of all values so far."""
        return Spread(self.count, self._mean, self._squares / (self.count - 1) if self.count > 1 else 0.0)


class VersionTally:
    """Counts the requests and batches of one version. Event loop only."""

    def __init__(self) -> None:
        self._request_count = 0
        self._failed_count = 0
        self._confidence = RunningSpread()
        self._log_batch_s: dict[int, RunningSpread] = {}

    def answered(self, faces: ScoredFaces, label_count: int) -> None:
        """Counts a request, as failed if one of its faces did; columns beyond the labels are ignored."""
        self._request_count += 1
        if faces.failures:
            self._failed_count += 1
        elif len(faces.scores):
            # One value per request: faces of one request are often alike and would overstate certainty.
            self._confidence.add(float(faces.scores[:, :label_count].max(axis=1).mean()))

    def failed(self) -> None:
        """Counts a request that got no scores."""
        self._request_count += 1
        self._failed_count += 1

    def ran(self, padded_count: int, inference_s: float) -> None:
        """Counts a batch of a padded size, in faces, and its run time in seconds."""
        times = self._log_batch_s.get(padded_count)
        if times is None:
            times = self._log_batch_s[padded_count] = RunningSpread()
        times.add(math.log(max(inference_s, 1e-9)))  # a fake clock may show zero elapsed time

    def figures(self) -> VersionStatistics:
        """Returns the figures so far."""
        times = {size: each.spread() for size, each in sorted(self._log_batch_s.items())}
        return VersionStatistics(self._request_count, self._failed_count, self._confidence.spread(), times)


class ShadowTally:
    """Counts how often a shadow's answers agree. Event loop only."""

    def __init__(self) -> None:
        self._face_count = 0
        self._agreed_count = 0
        self._largest = 0.0
        self._sum = 0.0
        self.dropped_count = 0

    def compared(self, shadow: Scores, answered: Scores) -> int:
        """Counts faces that both scored, each float32 [N, K], and returns on how many they agree."""
        agreed = int((shadow.argmax(axis=1) == answered.argmax(axis=1)).sum())
        differences = np.abs(shadow - answered)
        self._face_count += len(shadow)
        self._agreed_count += agreed
        self._largest = max(self._largest, float(differences.max(initial=0.0)))
        self._sum += float(differences.mean(axis=1).sum())
        return agreed

    def figures(self) -> ShadowStatistics:
        """Returns the figures so far."""
        mean = self._sum / self._face_count if self._face_count else 0.0
        return ShadowStatistics(self._face_count, self._agreed_count, self._largest, mean, self.dropped_count)
