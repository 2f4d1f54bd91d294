"""Decides whether a canary is promoted, rolled back, or observed longer. Pure.

Figures of live traffic are noisy and checked repeatedly, so a limit counts as exceeded only when even the lower
bound of a confidence interval is above it. Intervals are one-sided at three standard errors, 0.13 % for one check
of normal figures. Promotion requires the estimates themselves to be within the limits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ferserve_server.domain.canary import CanaryMode, CanaryResult, Verdict
from ferserve_server.models.validation import NEGLIGIBLE_S

if TYPE_CHECKING:
    from ferserve_server.domain.canary import ShadowStatistics, Spread, VersionStatistics
    from ferserve_server.models.canary.rules import CanaryRules

_STANDARD_ERRORS: Final = 3.0

_MIN_SAMPLES: Final = 10
"""Minimum number of requests or batches of either version, because variances of fewer are too uncertain."""

_MIN_BATCHES_PER_SIZE: Final = 5
"""Minimum number of batches of one size that both versions must have run for that size to count."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Compares one figure with its limit: the value is `estimate`, and with confidence at least `at_least`."""

    reason: str
    estimate: float
    at_least: float
    limit: float
    text: str


def judge(
    canary: VersionStatistics,
    stable: VersionStatistics,
    rules: CanaryRules,
    *,
    elapsed_s: float,
    healthy: bool = True,
    shadow: ShadowStatistics | None = None,
) -> Verdict:
    """Derives the verdict from the figures.

    Args:
        canary: Figures of the new version.
        stable: Figures of the active version in the same time.
        rules: The limits.
        elapsed_s: Time since the start of the canary run, in seconds.
        healthy: True if the canary's engine answers.
        shadow: Comparison of their answers, if the canary is a shadow.
    """
    if not healthy:
        return Verdict(CanaryResult.ROLL_BACK, "ENGINE_STALLED", "its engine does not answer")
    findings = [
        each
        for each in (
            compare_errors(canary, stable, rules.max_error_ratio_increase),
            compare_latency(canary, stable, rules.max_latency_factor),
            compare_confidence(canary.confidence, stable.confidence, rules.max_confidence_drop),
            compare_answers(shadow, rules.min_agreement) if shadow else None,
        )
        if each is not None
    ]
    for finding in findings:
        if finding.at_least > finding.limit:
            return Verdict(CanaryResult.ROLL_BACK, finding.reason, finding.text)
    summary = "; ".join(finding.text for finding in findings) or "nothing measured yet"
    return _wait(canary, stable, rules, elapsed_s, findings, summary) or Verdict(
        CanaryResult.PROMOTE, "WITHIN_LIMITS", summary
    )


def _wait(
    canary: VersionStatistics,
    stable: VersionStatistics,
    rules: CanaryRules,
    elapsed_s: float,
    findings: list[Finding],
    summary: str,
) -> Verdict | None:
    fewest = min(canary.request_count, stable.request_count)
    if elapsed_s < rules.window_s:
        return Verdict(CanaryResult.WAIT, "WINDOW_OPEN", f"{elapsed_s:.0f} of {rules.window_s:g} s; {summary}")
    if fewest < max(rules.min_requests, _MIN_SAMPLES):
        return Verdict(
            CanaryResult.WAIT,
            "TOO_FEW_REQUESTS",
            f"the canary had {canary.request_count} requests and the stable version {stable.request_count}, "
            f"each needs {max(rules.min_requests, _MIN_SAMPLES)}; {summary}",
        )
    doubtful = [finding for finding in findings if finding.estimate > finding.limit]
    if doubtful:
        return Verdict(CanaryResult.WAIT, "IN_DOUBT", f"beyond a limit, but not beyond doubt: {doubtful[0].text}")
    if rules.mode is CanaryMode.SHADOW and not rules.min_agreement:
        return Verdict(CanaryResult.WAIT, "OPERATOR_DECIDES", summary)
    return None


def compare_errors(canary: VersionStatistics, stable: VersionStatistics, limit: float) -> Finding | None:
    """Estimates by how much the canary's share of failed requests is larger; None for too few.

    The interval is Newcombe's for a difference of proportions, from Wilson's for each (Statistics in Medicine 17,
    1998, method 10): it holds for rare errors too, where the normal one does not.
    """
    if min(canary.request_count, stable.request_count) < _MIN_SAMPLES:
        return None
    mine, theirs = canary.failed_count / canary.request_count, stable.failed_count / stable.request_count
    low, _ = wilson(canary.failed_count, canary.request_count)
    _, high = wilson(stable.failed_count, stable.request_count)
    difference = mine - theirs
    return Finding(
        "ERRORS",
        difference,
        difference - math.hypot(mine - low, high - theirs),
        limit,
        f"{canary.failed_count} of {canary.request_count} requests failed, "
        f"of the stable version {stable.failed_count} of {stable.request_count}",
    )


def compare_latency(canary: VersionStatistics, stable: VersionStatistics, limit: float) -> Finding | None:
    """Estimates how many times as long a batch of the same size runs in the canary; None for too few.

    A canary's batches are smaller than those of the version with most of the traffic, so only equal sizes are
    compared. Logarithms are used, because times have a long tail; their mean is the geometric one, near the
    median.
    """
    sizes = [
        (mine, theirs)
        for size, mine in canary.log_batch_s.items()
        if (theirs := stable.log_batch_s.get(size)) and min(mine.count, theirs.count) >= _MIN_BATCHES_PER_SIZE
    ]
    if sum(mine.count for mine, _ in sizes) < _MIN_SAMPLES:
        return None
    # Sizes are weighted by their information: the harmonic mean of the two counts.
    weights = [mine.count * theirs.count / (mine.count + theirs.count) for mine, theirs in sizes]
    total = sum(weights)
    weighted = [(weight / total, mine, theirs) for weight, (mine, theirs) in zip(weights, sizes, strict=True)]
    difference = sum(weight * (mine.mean - theirs.mean) for weight, mine, theirs in weighted)
    error = math.sqrt(sum((weight * _standard_error(mine, theirs)) ** 2 for weight, mine, theirs in weighted))
    mine_s = sum(weight * math.exp(mine.mean) for weight, mine, _ in weighted)
    theirs_s = sum(weight * math.exp(theirs.mean) for weight, _, theirs in weighted)
    negligible = mine_s - theirs_s <= NEGLIGIBLE_S
    factor, at_least = math.exp(difference), math.exp(difference - _STANDARD_ERRORS * error)
    return Finding(
        "LATENCY",
        min(factor, limit) if negligible else factor,
        min(at_least, limit) if negligible else at_least,
        limit,
        f"a batch takes {mine_s * 1e3:.2f} ms, in the stable version {theirs_s * 1e3:.2f} ms",
    )


def compare_confidence(canary: Spread, stable: Spread, limit: float) -> Finding | None:
    """Estimates by how much the canary's mean confidence is lower (Welch's interval); None for too few."""
    if min(canary.count, stable.count) < _MIN_SAMPLES:
        return None
    drop = stable.mean - canary.mean
    return Finding(
        "CONFIDENCE",
        drop,
        drop - _STANDARD_ERRORS * _standard_error(canary, stable),
        limit,
        f"mean confidence {canary.mean:.3f}, of the stable version {stable.mean:.3f}",
    )


def compare_answers(shadow: ShadowStatistics, min_agreement: float) -> Finding | None:
    """Estimates how often the shadow finds another class, against 1 - `min_agreement`; None for too few."""
    if shadow.face_count < _MIN_SAMPLES:
        return None
    differing = shadow.face_count - shadow.agreed_count
    low, _ = wilson(differing, shadow.face_count)
    return Finding(
        "AGREEMENT",
        differing / shadow.face_count,
        low,
        1.0 - min_agreement,
        f"both versions agree on {shadow.agreed_count} of {shadow.face_count} faces",
    )


def wilson(count: int, total: int) -> tuple[float, float]:
    """Computes Wilson's interval for a share (JASA 22, 1927): bounds of `count` of `total`, which is 1 or more."""
    share, square = count / total, _STANDARD_ERRORS**2
    center = (share + square / (2 * total)) / (1 + square / total)
    half = (
        _STANDARD_ERRORS / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    )
    return max(0.0, min(center - half, share)), min(1.0, max(center + half, share))


def _standard_error(one: Spread, other: Spread) -> float:
    return math.sqrt(one.variance / one.count + other.variance / other.count)
