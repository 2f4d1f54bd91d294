"""Defines canaries: new versions that get a share of the traffic, their measurements and the resulting verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class CanaryMode(Enum):
    """Defines how a canary takes part in the traffic."""

    SPLIT = "split"
    """It answers them."""
    SHADOW = "shadow"
    """It gets copies after the stable version has answered; its own answers are only compared."""


class CanaryResult(Enum):
    """Defines the results of a canary's figures."""

    WAIT = "wait"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, slots=True)
class Spread:
    """Holds the count of values, their mean, and their variance (unbiased; 0 for fewer than two)."""

    count: int = 0
    mean: float = 0.0
    variance: float = 0.0


@dataclass(frozen=True, slots=True)
class VersionStatistics:
    """Holds the figures of a version during a canary.

    Attributes:
        request_count: Times that faces were scored for requests which name no version.
        failed_count: Those of them that it failed, wholly or in part.
        confidence: Mean probability of the most probable class, one value for each of the others.
        log_batch_s: Natural logarithm of a batch's run in seconds, one value a batch, by padded size in faces.
    """

    request_count: int = 0
    failed_count: int = 0
    confidence: Spread = field(default_factory=Spread)
    log_batch_s: Mapping[int, Spread] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShadowStatistics:
    """Compares a shadow's answers with those that callers got.

    Attributes:
        face_count: Faces that both scored.
        agreed_count: Those for which both find the same class most probable.
        largest_difference: Largest difference of a probability.
        mean_difference: Mean difference of a probability, without sign.
        dropped_count: Copies that were not scored, because the shadow was busy.
    """

    face_count: int = 0
    agreed_count: int = 0
    largest_difference: float = 0.0
    mean_difference: float = 0.0
    dropped_count: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Holds the verdict on the figures: `reason` (UPPER_SNAKE_CASE) and `text` explain it, with the figures."""

    result: CanaryResult
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """Describes a canary at one moment.

    Attributes:
        version: The version that is tried.
        stable_version: The version it is compared with.
        mode: What it does with its share.
        share: Share of the requests without a version, above 0, at most 1.
        elapsed_s: How long it has been tried, in seconds.
        canary: What it showed.
        stable: What the stable version showed meanwhile.
        shadow: How their answers compare; None unless the mode is SHADOW.
        verdict: What follows by now.
    """

    version: int
    stable_version: int
    mode: CanaryMode
    share: float
    elapsed_s: float
    canary: VersionStatistics
    stable: VersionStatistics
    shadow: ShadowStatistics | None
    verdict: Verdict
